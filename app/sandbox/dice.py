"""Chance that can be repeated: the same seed and numbers always give the same roll."""

_MASK = (1 << 64) - 1


def roll(seed: int, *numbers: int) -> int:
    """64 well-mixed bits, much faster than seeding a generator for every object."""
    bits = seed & _MASK
    for number in numbers:
        bits = ((bits ^ number) + 0x9E3779B97F4A7C15) & _MASK
        bits = ((bits ^ bits >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        bits = ((bits ^ bits >> 27) * 0x94D049BB133111EB) & _MASK
        bits ^= bits >> 31
    return bits


def fraction(seed: int, *numbers: int) -> float:
    """A number from zero up to, but not including, one."""
    return (roll(seed, *numbers) >> 11) / (1 << 53)


def between(bounds: tuple[float, float], seed: int, *numbers: int) -> float:
    """A number between the two bounds."""
    low, high = bounds
    return low + (high - low) * fraction(seed, *numbers)
