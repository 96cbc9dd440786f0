"""Pauses that grow."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after so many tries: doubling up to a limit, less up to half of it by chance."""

    least: float
    most: float
    random: Random

    def __call__(self, tries: int) -> float:
        return min(self.most, self.least * 2.0 ** min(tries, 30)) * self.random.uniform(0.5, 1.0)
