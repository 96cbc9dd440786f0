"""The worker's own view of its lease: by its own clock it stops before others may take over."""

from app.clock import Clock
from app.ids import WorkerId
from app.lanes.lease import LaneLost


class Lease:
    """When the last good beat was sent, and whether that is recent enough to act."""

    def __init__(self, clock: Clock, worker: WorkerId, seconds: float) -> None:
        self.worker = worker
        self.seconds = seconds
        self._clock = clock
        self._renewed = clock.monotonic()

    def renewed(self, sent_at: float) -> None:
        """A beat that was sent at this time of the monotonic clock has been acknowledged."""
        self._renewed = sent_at

    @property
    def remaining(self) -> float:
        """Seconds until the lease ends, not counting what the database may grant beyond."""
        return self._renewed + self.seconds - self._clock.monotonic()

    def check(self) -> None:
        """Raises `LaneLost` when the lease may be over: a process that was stopped must not act on waking."""
        if self.remaining <= 0:
            raise LaneLost(self.worker)
