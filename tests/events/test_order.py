"""No reader of the feed misses an event, though transactions commit in another order than they write."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Client, Scope
from app.api.changes import Changes
from app.api.feed import Feed
from app.clock import SystemClock
from app.conninfo import conninfo
from app.database.session import Database
from app.events.log import Event, EventType, record
from app.events.placing import place_events
from app.exports.feed import Edge, EventFilter, feed_page
from app.settings import Settings
from tests.locks import until_somebody_waits
from tests.postgres import patient_database

Sessions = async_sessionmaker[AsyncSession]

# A sixth of the transactions is rolled back, so that 100,000 events remain.
WRITERS, TIMES, AT_ONCE = 20, 30, 200
READERS = 4
ADMIN = Client(name="admin", scopes=[Scope.ADMIN], grants=[])
# Some at a time, with ids that tell who wrote them.
WRITE = text("""
    INSERT INTO events (id, type, actor, data)
    SELECT 'evt_' || :name || '_' || number, 'lane.paused', 'test', '{}'
    FROM generate_series(1, :many) AS number
""")


@pytest.fixture
async def roomy(settings: Settings) -> AsyncIterator[Database]:
    """With a connection for everybody."""
    more = settings.model_copy(update={"database_pool_size": WRITERS + READERS + 4})
    async with patient_database(more) as database:
        yield database


def a_feed(database: Database) -> Feed:
    clock = SystemClock()
    return Feed(database.sessions, Changes(database.listen_conninfo, clock), clock, 4)


async def writes(sessions: Sessions, writer: int, half_way: asyncio.Event) -> None:
    """Many transactions: some are rolled back, and some stay open while others come and go."""
    for number in range(TIMES):
        async with sessions() as session:
            await session.begin()
            await session.execute(WRITE, {"name": f"{writer}_{number}", "many": AT_ONCE // 2})
            if writer % 5 == 0 and number == 0:
                await half_way.wait()
            await session.execute(WRITE, {"name": f"{writer}_{number}_more", "many": AT_ONCE // 2})
            await (session.rollback() if number % 6 == 5 else session.commit())
        if number == TIMES // 2 and writer == 1:
            half_way.set()


async def reads(feed: Feed, most: int, written: asyncio.Event) -> list[str]:
    """The ids of all events in the order in which they were shown, page after page."""
    seen: list[str] = []
    cursor: int | Edge = Edge.OLDEST
    while True:
        is_all = written.is_set()
        page = await feed.page(ADMIN, EventFilter(), cursor, most)
        seen += [told.event.id for told in page.items]
        cursor = page.cursor
        if is_all and not page.has_more:
            return seen
        await asyncio.sleep(0)


async def reads_in_haste(sessions: Sessions, most: int, written: asyncio.Event) -> list[str]:
    """The same without what is told of each: a reader that is always at the end of what is committed."""
    seen: list[str] = []
    cursor = 0
    while True:
        is_all = written.is_set()
        async with sessions.begin() as session:
            await place_events(session)
        following = select(Event.id, Event.position).where(Event.position > cursor)
        async with sessions() as session:
            rows = (await session.execute(following.order_by(Event.position).limit(most))).all()
        if is_all and not rows:
            return seen
        seen += [row.id for row in rows]
        cursor = rows[-1].position if rows else cursor


async def test_all_readers_see_every_event_once_and_in_one_order(roomy: Database) -> None:
    written, half_way = asyncio.Event(), asyncio.Event()
    reading = [
        asyncio.create_task(reads(a_feed(roomy), 1000, written)),
        *(asyncio.create_task(reads_in_haste(roomy.sessions, most, written)) for most in (700, 3000, 5000)),
    ]
    await asyncio.gather(*(writes(roomy.sessions, writer, half_way) for writer in range(WRITERS)))
    written.set()
    first, *others = await asyncio.gather(*reading)
    async with roomy.sessions() as session:
        committed = set(await session.scalars(select(Event.id)))
        by_position = list(await session.scalars(select(Event.id).order_by(Event.position)))
        by_writing = list(await session.scalars(select(Event.id).order_by(Event.seq)))
        last = await session.scalar(select(func.max(Event.position)))
    assert len(committed) == last == WRITERS * (TIMES - TIMES // 6) * AT_ONCE == 100_000
    assert set(first) == committed
    assert len(first) == len(committed)
    assert all(other == first for other in others)
    assert first == by_position
    assert first != by_writing, "no transaction was late: nothing was tried"


async def test_an_event_that_is_committed_late_comes_after_what_was_shown(database: Database) -> None:
    feed = a_feed(database)
    async with database.sessions() as late:
        await late.begin()
        await record(late, EventType.LANE_PAUSED, actor="late")
        async with database.sessions.begin() as session:
            await record(session, EventType.LANE_PAUSED, actor="early")
        shown = await feed.page(ADMIN, EventFilter(), Edge.OLDEST, 10)
        await late.commit()
    following = await feed.page(ADMIN, EventFilter(), shown.cursor, 10)
    assert [told.event.actor for told in shown.items] == ["early"]
    assert [told.event.actor for told in following.items] == ["late"]
    assert following.items[0].event.seq < shown.items[0].event.seq


async def test_two_who_place_at_the_same_time_place_nothing_twice(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(WRITE, {"name": "x", "many": 10})

    async def second() -> None:
        async with database.sessions.begin() as session:
            await place_events(session)

    async with database.sessions.begin() as session:
        await place_events(session)
        waiting = asyncio.create_task(second())
        await until_somebody_waits(database.sessions)
    await waiting
    async with database.sessions() as session:
        positions = list(await session.scalars(select(Event.position).order_by(Event.seq)))
    assert positions == [*range(1, 11)]


async def test_a_backlog_is_placed_some_at_a_time(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(WRITE, {"name": "x", "many": 10})
    async with database.sessions.begin() as session:
        assert await place_events(session, most=10)
    async with database.sessions.begin() as session:
        assert not await place_events(session, most=10)


async def test_a_page_goes_through_so_many_positions_at_most(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_page.__module__ + ".AT_ONCE", 4)
    async with database.sessions.begin() as session:
        await session.execute(WRITE, {"name": "x", "many": 9})
        await record(session, EventType.CLIENT_CREATED, actor="rare")
    rare = EventFilter(types=frozenset({EventType.CLIENT_CREATED}))
    feed, cursor, pages = a_feed(database), Edge.OLDEST, []
    has_more = True
    while has_more:
        page = await feed.page(ADMIN, rare, cursor, 10)
        cursor, has_more = page.cursor, page.has_more  # type: ignore[assignment]
        pages.append([told.event.actor for told in page.items])
    assert pages == [[], [], ["rare"]]


async def test_what_is_forgotten_in_the_middle_of_a_page_is_no_gap(
    settings: Settings, database: Database
) -> None:
    async with database.sessions.begin() as session:
        await session.execute(WRITE, {"name": "x", "many": 10})
        await place_events(session)
    forgotten = 0

    def forget(*_: object) -> None:
        """By another one, as soon as a page has begun to be read."""
        nonlocal forgotten
        if not forgotten:
            with psycopg.connect(conninfo(settings.database_url or "")) as other:
                other.execute("UPDATE event_feed SET forgotten_position = 5")
                forgotten = other.execute("DELETE FROM events WHERE position <= 5").rowcount

    event.listen(database.engine.sync_engine, "after_cursor_execute", forget)
    async with database.sessions() as session:
        page = await feed_page(session, ADMIN, EventFilter(), 2, 10)
    event.remove(database.engine.sync_engine, "after_cursor_execute", forget)
    assert forgotten == 5
    assert [told.position for told in page.items] == [*range(3, 11)]
