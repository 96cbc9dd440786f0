"""The event feed for all who follow it in this process: each new event is read once."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import still_let_in
from app.access.models import EVERYBODY, Client
from app.api.changes import Changes
from app.api.looks import Looks
from app.clock import Clock, woken_within
from app.events.placing import any_unplaced, place_events
from app.exports.feed import Cursor, Edge, EventFilter, FeedEvent, FeedPage, feed_page, may_see
from app.ids import ClientId
from app.problems import ProblemError

# New events are kept in memory for those who are about to be sent them. Who is slower reads pages.
KEPT = 2_000
AT_ONCE = 100
# Not every event has a notification: PostgreSQL lets those who notify commit one after the other.
LOOK_SECONDS = 0.5
# What comes in quick succession is read together.
GATHER_SECONDS = 0.05
UNAVAILABLE = (DBAPIError, PoolTimeout)

log = structlog.get_logger()


class Feed:
    """Places events, reads pages of them, and lets followers wait for the next ones without a connection.

    A follower is nothing but a position: however slow it is, it holds up nobody and nothing is kept for it.
    """

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], changes: Changes, clock: Clock, at_once: int
    ) -> None:
        self._sessions = sessions
        self._changes = changes
        self._clock = clock
        self._pages = Looks[tuple[ClientId, EventFilter, int], FeedPage](at_once)
        self._clients = Looks[ClientId, Client | None](at_once)
        self._news = asyncio.Event()
        self._newest: list[FeedEvent] = []
        # Between these positions all events are among the newest.
        self._from: int | None = None
        self._to = 0
        self.followers = 0
        # Who has begun to follow in an earlier one has to begin anew.
        self.era = 0
        self.closed = False

    @property
    def in_memory(self) -> int:
        """How many events are kept for those who follow."""
        return len(self._newest)

    async def page(self, client: Client, wanted: EventFilter, after: Cursor, most: int) -> FeedPage:
        """What follows a cursor as of now. Raises `ProblemError`, see `feed_page`."""
        more = await self._place()
        while more and after is Edge.LATEST:
            more = await self._place()
        async with self._sessions() as session:
            page = await feed_page(session, client, wanted, after, most)
        return FeedPage(page.items, page.cursor, page.has_more or more)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """While somebody follows, new events are read as they come."""
        self.followers += 1
        self._changes.events.set()
        try:
            yield
        finally:
            self.followers -= 1

    async def next(self, client: Client, wanted: EventFilter, after: int, within: float) -> FeedPage:
        """What follows a position as soon as there is something; an empty page after so many seconds."""
        news, known = self._news, self._since(after)
        if known is None:
            read = partial(self.page, client, wanted, after, AT_ONCE)
            return await self._pages.at((client.id, wanted, after), read)
        if not known:
            await woken_within(self._clock, news, within)
            return FeedPage([], after, has_more=False)
        seen = [told for told in known if wanted.fits(told.event) and may_see(client, told)]
        return FeedPage(seen, known[-1].position, has_more=False)

    async def let_in(self, client: Client) -> Client | None:
        """The client as it is now; None when the key that it came with opens nothing any more."""
        now = await self._clients.at(client.id, partial(self._client_now, client.id))
        return still_let_in(client, now)

    async def run(self) -> None:
        """Read new events for ever, as long as somebody follows."""
        while True:
            self._changes.events.clear()
            more = False
            try:
                more = await self._read() if self.followers else self._forget()
            except ProblemError:
                # So long was the database away, or it was put back: what is known of it is true no more.
                self._forget()
                self.era += 1
                self._wake()
            except UNAVAILABLE as error:
                log.warning("feed.read_failed", error=f"{type(error).__name__}: {error}".splitlines()[0])
            if not more:
                await woken_within(self._clock, self._changes.events, LOOK_SECONDS)
                await self._clock.sleep(GATHER_SECONDS)

    def close(self) -> None:
        """Nobody shall follow any longer: the process is about to end."""
        self.closed = True
        self._wake()

    def _since(self, position: int) -> list[FeedEvent] | None:
        """Some of the newest; None where they may not be all that follow."""
        if self._from is None:
            return []
        if position < self._from:
            return None
        first = bisect_right(self._newest, position, key=lambda told: told.position)
        return self._newest[first : first + AT_ONCE]

    async def _read(self) -> bool:
        begun = self._from is not None
        page = await self.page(EVERYBODY, EventFilter(), self._to if begun else Edge.LATEST, KEPT)
        if not begun:
            self._from = page.cursor
        moved, self._to = page.cursor != self._to, page.cursor
        self._newest += page.items
        if surplus := self._newest[:-KEPT]:
            self._from = surplus[-1].position
            del self._newest[: len(surplus)]
        if moved or not begun:
            self._wake()
        return page.has_more

    def _forget(self) -> bool:
        self._from, self._newest = None, []
        return False

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _place(self) -> bool:
        """Number what is committed; tells whether there may be more."""
        async with self._sessions() as session:
            if not await any_unplaced(session):
                return False
        async with self._sessions.begin() as session:
            return await place_events(session)

    async def _client_now(self, client: ClientId) -> Client | None:
        async with self._sessions() as session:
            return await session.get(Client, client)
