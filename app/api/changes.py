"""News of exports for all who wait in this process, over one connection to the database."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import structlog

from app.clock import Clock
from app.ids import LaneKey, RunId
from app.lanes.notifications import CHANGES, listen, read_change

RECONNECT_SECONDS = 1.0
# Others of the lane coming and going moves places in the queue. Hundreds may wait in a lane, and would all
# look at once: they are told of it within this time.
LANE_NEWS_WITHIN = 5.0

K = TypeVar("K")
log = structlog.get_logger()


class Changes:
    """LISTEN, fanned out: who waits costs no connection of its own."""

    def __init__(self, conninfo: str, clock: Clock) -> None:
        self._conninfo = conninfo
        self._clock = clock
        self._by_run: defaultdict[RunId, set[asyncio.Event]] = defaultdict(set)
        self._by_lane: defaultdict[LaneKey, set[asyncio.Event]] = defaultdict(set)
        # Those that are told of their lane within moments: once is enough, whatever happens there.
        self._soon: set[asyncio.Event] = set()
        # Set when events were probably written.
        self.events = asyncio.Event()
        self.closed = False

    @contextmanager
    def subscribe(self, run: RunId, lane: LaneKey | None = None) -> Iterator[asyncio.Event]:
        """An event that is set when the run changes, or, a little later, something else in the lane."""
        event = asyncio.Event()
        self._by_run[run].add(event)
        if lane:
            self._by_lane[lane].add(event)
        try:
            yield event
        finally:
            _remove(self._by_run, run, event)
            if lane:
                _remove(self._by_lane, lane, event)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(events) for events in self._by_run.values())

    async def run(self) -> None:
        """Listen for ever. After a break everybody is woken, for news may have been missed."""
        while True:
            try:
                async for channel, payload in listen(self._conninfo, CHANGES):
                    if channel:
                        self._tell(payload)
                    else:
                        self._wake_all()
            except psycopg.Error as error:
                log.warning("changes.listen_failed", error=str(error))
            await self._clock.sleep(RECONNECT_SECONDS)

    def close(self) -> None:
        """Nobody shall wait any longer: the process is about to end."""
        self.closed = True
        self._wake_all()

    def _tell(self, payload: str) -> None:
        self.events.set()
        lane, run, _ = read_change(payload)
        told = self._by_run.get(run, set())
        for event in told:
            event.set()
        loop = asyncio.get_running_loop()
        for event in self._by_lane.get(lane, set()) - told - self._soon:
            self._soon.add(event)
            loop.call_later(random.uniform(0, LANE_NEWS_WITHIN), self._set, event)  # noqa: S311

    def _set(self, event: asyncio.Event) -> None:
        self._soon.discard(event)
        event.set()

    def _wake_all(self) -> None:
        self.events.set()
        for events in self._by_run.values():
            for event in events:
                event.set()


def _remove(events: dict[K, set[asyncio.Event]], key: K, event: asyncio.Event) -> None:
    events[key].discard(event)
    if not events[key]:
        del events[key]
