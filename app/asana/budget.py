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

    async def turn(self) -> None:
        """Wait until a call may be made."""
        now = self._clock.monotonic()
        self._spent_until = max(self._spent_until, now - self._burst * self._interval) + self._interval
        due = self._spent_until
        while (wait := max(due, self._held_until) - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)

    def hold_for(self, seconds: float) -> None:
        """No call before so many seconds have gone by."""
        self._held_until = max(self._held_until, self._clock.monotonic() + seconds)
