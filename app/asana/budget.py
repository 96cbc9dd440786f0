"""The pace at which one token may be used."""

import math

from app.clock import Clock


class CallBudget:
    """Turns for the calls of one token, first come first served, so many a minute and none while held.

    Asana counts calls by token and minute and counts refused ones too: waiting is cheaper than asking.
    """

    def __init__(self, clock: Clock, per_minute: int, burst: int = 50) -> None:
        self._clock = clock
        self._interval = 60.0 / per_minute
        self._burst = burst
        # When the bucket would be empty: each call moves it on by an interval, idle time lets it fall behind.
        self._spent_until = -math.inf
        self._held_until = -math.inf

    async def turn(self, *, urgent: bool = False) -> None:
        """Wait until a call may be made; an urgent one, which should be rare, only while all are held.

        Turns are dealt out after a hold, not during it: else all that fell due meanwhile would go at once.
        """
        while True:
            await self._until(self._held_until)
            due = self._next()
            if not urgent:
                await self._until(due)
            if self.held_for <= 0:
                return

    @property
    def held_for(self) -> float:
        """Seconds until a call may be made at all."""
        return self._held_until - self._clock.monotonic()

    def hold_for(self, seconds: float) -> None:
        """No call before so many seconds have gone by."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)

    def _next(self) -> float:
        """When the next turn is due, which is now taken."""
        behind = self._clock.monotonic() - self._burst * self._interval
        self._spent_until = max(self._spent_until, behind) + self._interval
        return self._spent_until

    async def _until(self, due: float) -> None:
        while (wait := due - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
