"""The moments of a schedule: its slots by cron and zone, and the jitter of each.

Where clocks are put forward or back, cron times follow Debian's cron (docs/schedules.md).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

INSTANT = timedelta(microseconds=1)
# How far back the newest of many missed slots is looked for: not through a year of minutes, one by one.
LOOKS_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32))
GAPS_LOOKED_AT = 100


@cache
def zones() -> frozenset[str]:
    """The names of all zones of the IANA database; not what each machine has for its own."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


@dataclass(frozen=True)
class Timing:
    """When a schedule fires. `seed` is what its jitter is drawn from: the same for whoever asks."""

    cron: str
    timezone: str
    jitter: int = 0
    seed: str = ""

    def slots_after(self, moment: datetime) -> Iterator[datetime]:
        """All slots later than a moment, in UTC; none for a cron expression that never comes true.

        Raises `ValueError` for what is no cron expression of five fields.
        """
        if len(self.cron.split()) != 5:
            raise ValueError("it has not five fields")
        try:
            for slot in CronSim(self.cron, moment.astimezone(ZoneInfo(self.timezone))):
                yield slot.astimezone(UTC)
        except CronSimError as error:
            raise ValueError(str(error)) from None

    def slot_after(self, moment: datetime) -> datetime:
        """The first slot later than a moment."""
        return next(self.slots_after(moment))

    def fires_at(self, slot: datetime) -> datetime:
        """The slot with its jitter, which depends on nothing but the schedule and the slot."""
        digest = sha256(f"{self.seed} {slot.astimezone(UTC).isoformat()}".encode()).digest()
        return slot + timedelta(seconds=int.from_bytes(digest[:8]) % (self.jitter + 1))

    def newest_due(self, first: datetime, now: datetime) -> datetime:
        """The last slot that is to have fired by now, where `first` is one."""
        for back in (*LOOKS_BACK, now - first):
            since = max(first, now - back)
            slots = takewhile(lambda slot: slot <= now, self.slots_after(since - INSTANT))
            if due := [slot for slot in slots if self.fires_at(slot) <= now]:
                return due[-1]
        return first

    def shortest_gap(self, now: datetime) -> timedelta | None:
        """Between two of the next slots; None where there are not two."""
        return min(
            (late - early for early, late in pairwise(islice(self.slots_after(now), GAPS_LOOKED_AT))),
            default=None,
        )
