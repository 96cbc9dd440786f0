"""One follower of the event feed: a stream of server-sent events (WHATWG HTML, section 9.2)."""

from collections.abc import AsyncIterator
from functools import lru_cache

from fastapi.sse import format_sse_event
from pydantic import Field

from app.access.models import Client, Scope
from app.api.feed import KEPT, UNAVAILABLE, Feed
from app.clock import Clock
from app.events.body import EventBody
from app.exports.feed import EventFilter, FeedEvent, FeedPage
from app.problems import ProblemError

# In milliseconds, as the standard has it.
RECONNECT_AFTER = 5_000
QUIET_SECONDS = 15.0
CHECK_SECONDS = 15.0
PAUSE_SECONDS = 1.0


class FeedEventOut(EventBody):
    """An event in its place in the feed."""

    id: str = Field(description="The same wherever the event is told.")
    cursor: str = Field(description="Its place: `after` it begins what follows. Opaque.")
    workspace: str | None = Field(description="The workspace it is about; null where it is about none.")

    @classmethod
    def placed(cls, told: FeedEvent) -> "FeedEventOut":
        body = EventBody.of(told.event)
        return cls(
            type=body.type,
            timestamp=body.timestamp,
            data=body.data,
            id=told.event.id,
            cursor=str(told.position),
            workspace=told.event.workspace,
        )


# Hundreds are sent the same event.
@lru_cache(KEPT)
def as_sent(told: FeedEvent) -> bytes:
    """An event as it goes over the line."""
    data = FeedEventOut.placed(told).model_dump_json()
    return format_sse_event(event=told.event.type, data_str=data, id=str(told.position))


class Follower:
    """Sends what a client may see, until its key opens nothing any more or the process is about to end.

    Of the database it needs nothing while it waits. A database that is away ends no stream, for not every
    reader comes back by itself after a 503.
    """

    def __init__(self, feed: Feed, clock: Clock, client: Client, wanted: EventFilter) -> None:
        self._feed = feed
        self._clock = clock
        self._client = client
        self._wanted = wanted
        self._checked_at = clock.monotonic()

    async def stream(self, first: FeedPage) -> AsyncIterator[bytes]:
        """The events of a page, and all that follow."""
        # Who begins with what happens from now on begins there again, should nothing come until it breaks.
        known = None if first.items else first.cursor
        yield format_sse_event(retry=RECONNECT_AFTER, id=None if known is None else str(known))
        page: FeedPage | None = first
        sent_at = self._clock.monotonic()
        era = self._feed.era
        with self._feed.followed():
            while page and not self._feed.closed and self._feed.era == era:
                is_quiet = self._clock.monotonic() - sent_at >= QUIET_SECONDS
                if page.items:
                    yield b"".join(map(as_sent, page.items))
                    known = page.items[-1].position
                elif is_quiet:
                    # A place without an event is remembered, too: who sees little does not fall behind.
                    moved = page.cursor != known
                    yield format_sse_event(comment="", id=str(page.cursor) if moved else None)
                    known = page.cursor
                if page.items or is_quiet:
                    sent_at = self._clock.monotonic()
                page = await self._next(page)

    async def _next(self, page: FeedPage) -> FeedPage | None:
        """None when there is nothing to be followed any more."""
        try:
            if self._clock.monotonic() - self._checked_at >= CHECK_SECONDS and not await self._is_let_in():
                return None
            return await self._feed.next(self._client, self._wanted, page.cursor, QUIET_SECONDS)
        except UNAVAILABLE:
            await self._clock.sleep(PAUSE_SECONDS)
            return FeedPage([], page.cursor, has_more=True)
        except ProblemError:
            return None

    async def _is_let_in(self) -> bool:
        now = await self._feed.let_in(self._client)
        if now is None or not now.may(Scope.EXPORTS_READ):
            return False
        self._client, self._checked_at = now, self._clock.monotonic()
        return True
