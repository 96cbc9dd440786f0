"""Virtual time: as fast as one likes, and moved by hand."""

import time
from datetime import UTC, datetime


class VirtualClock:
    """Seconds since the epoch that pass `scale` times as fast as real ones."""

    def __init__(self, starts_at: float | None = None, scale: float = 1.0) -> None:
        self._virtual = time.time() if starts_at is None else starts_at
        self._real = time.monotonic()
        self._scale = scale

    @property
    def scale(self) -> float:
        """Virtual seconds in a real one."""
        return self._scale

    def now(self) -> float:
        """The virtual time."""
        return self._virtual + (time.monotonic() - self._real) * self._scale

    def advance(self, seconds: float) -> None:
        """Jump ahead."""
        self._virtual += seconds

    def run_at(self, scale: float) -> None:
        """Go at another speed from here on."""
        self._virtual, self._real = self.now(), time.monotonic()
        self._scale = scale

    def in_real_seconds(self, seconds: float) -> float:
        """How long a client has to wait for so many virtual seconds."""
        return seconds / self._scale if self._scale else seconds


def timestamp(seconds: float) -> str:
    """An instant the way Asana writes it: UTC, milliseconds, `Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
