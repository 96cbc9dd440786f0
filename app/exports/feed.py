"""The event feed: what happened, in one order for everybody, to each what they may see."""

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import ARRAY, ColumnElement, Select, Text, and_, exists, func, literal, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Scope
from app.database.base import BigInt
from app.events.log import Event, EventType
from app.events.placing import EventFeed
from app.exports.models import Export, Status
from app.exports.reading import visible_export
from app.ids import ClientId, ExportId
from app.problems import Code, ProblemError

# Positions that one look goes through at most: what is rare is found by several short looks.
AT_ONCE = 200_000


class Edge(Enum):
    """An end of the feed: the oldest event that is kept, or what happens from now on."""

    OLDEST = auto()
    LATEST = auto()


Cursor = int | Edge


@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted; without types, those of all."""

    export: ExportId | None = None
    workspace: str | None = None
    types: frozenset[EventType] = frozenset()

    def fits(self, event: Event) -> bool:
        return (
            self.export in {None, event.export}
            and self.workspace in {None, event.workspace}
            and (not self.types or event.type in self.types)
        )

    @property
    def condition(self) -> ColumnElement[bool]:
        """The same for the database, which finds them by it."""
        return and_(
            true() if self.export is None else Event.export == self.export,
            true() if self.workspace is None else Event.workspace == self.workspace,
            Event.type.in_(self.types) if self.types else true(),
        )


@dataclass(frozen=True)
class FeedEvent:
    """An event in its place. Where it is about a run and no export, `owners` are the clients that have the
    run's result."""

    position: int
    event: Event
    owners: frozenset[ClientId]


@dataclass(frozen=True)
class FeedPage:
    """Some of the feed, and the position up to which it was looked through."""

    items: list[FeedEvent]
    cursor: int
    has_more: bool


OWNERS = (
    select(func.array_agg(Export.client.distinct()))
    .where(Event.export.is_(None), Export.run == Event.run, Export.status == Status.SUCCEEDED)
    .correlate(Event)
    .scalar_subquery()
)
PLACED = (
    select(Event, OWNERS.label("owners")).order_by(Event.position).execution_options(populate_existing=True)
)


def may_see(client: Client, told: FeedEvent) -> bool:
    """An export's events are for its client, a run's for those who have its result, and those of a lane for
    all with a grant for its workspace; administrators see everything."""
    event = told.event
    if client.may(Scope.ADMIN) or event.audience == client.id:
        return True
    if event.workspace is None or event.audience != event.workspace:
        return False
    is_granted = client.sees_all_workspaces or event.workspace in client.workspaces
    return is_granted and (event.run is None or client.id in told.owners)


async def feed_page(
    session: AsyncSession, client: Client, wanted: EventFilter, after: Cursor, most: int
) -> FeedPage:
    """What the client may see of what follows a cursor; a page may be empty though there is more.

    The session has to be fresh: all is seen as of one moment. Raises `ProblemError`: `cursor-expired`, and
    `not-found` for an export that the client may not see.
    """
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    if wanted.export:
        await visible_export(session, client, wanted.export)
    feed = await session.get_one(EventFeed, True)
    begin = await _begin(session, feed, after)
    until = min(feed.last_position, begin + AT_ONCE)
    places = select(Event.position).where(wanted.condition, Event.position.between(begin + 1, until))
    places = places.order_by(Event.position).limit(most)
    if not (wanted.export or client.may(Scope.ADMIN)):
        places = _seen_by(client, places, most)
    found = [
        FeedEvent(event.position or 0, event, frozenset(owners or ()))
        for event, owners in await session.execute(PLACED.where(Event.position.in_(places)))
    ]
    cursor = found[-1].position if len(found) == most else until
    return FeedPage(found, cursor, cursor < feed.last_position)


async def _begin(session: AsyncSession, feed: EventFeed, after: Cursor) -> int:
    if after is Edge.LATEST:
        return feed.last_position
    if after is Edge.OLDEST:
        return feed.forgotten_position
    if after < feed.forgotten_position:
        raise ProblemError(Code.CURSOR_EXPIRED, "Events that follow this cursor are no longer kept.")
    if after > feed.last_position:
        detail = "The cursor is ahead of all events: it is of another database, or this one was put back."
        raise ProblemError(Code.CURSOR_EXPIRED, detail)
    return after


def _seen_by(client: Client, places: Select[BigInt | None], most: int) -> Select[BigInt | None]:
    """The first places of events that a client may see.

    Few grants lead to few events, which are found by the index of each audience; who sees all workspaces sees
    much of what a walk through the feed comes by.
    """
    has_result = exists().where(
        Export.run == Event.run, Export.client == client.id, Export.status == Status.SUCCEEDED
    )
    is_seen = or_(
        Event.audience == client.id,
        and_(Event.audience == Event.workspace, or_(Event.run.is_(None), has_result)),
    )
    places = places.where(is_seen)
    if client.sees_all_workspaces:
        return places
    names = literal([client.id, *client.workspaces], ARRAY(Text))
    audience = func.unnest(names).table_valued("name")
    first = places.where(Event.audience == audience.c.name).lateral("first")
    return select(first.c.position).join_from(audience, first, true()).order_by(first.c.position).limit(most)
