"""What is forgotten of the event log, and how one is told of it."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database.session import elected
from app.events.log import Event, EventType, new_event, record, record_all
from app.events.placing import EventFeed
from app.exports.cancel import cancel
from app.exports.history import Promise, violations
from app.exports.models import Export
from app.worker import forget
from app.worker.context import Context
from app.worker.forget import FORGETTING_DUTY, forget_events
from tests.builders import Tenant, an_export

Sessions = async_sessionmaker[AsyncSession]
RETENTION = 90


async def ended(sessions: Sessions, tenant: Tenant, days_ago: int) -> Export:
    """A canceled export whose end and events are that old."""
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        await cancel(session, export.id, actor="test", request_id=None)
        await backdate(session, "export = :export", export=export.id, days=days_ago)
        await session.execute(
            text(
                "UPDATE exports SET created_at = created_at - :age, phase_since = phase_since - :age, "
                "finished_at = finished_at - :age WHERE id = :export"
            ),
            {"export": export.id, "age": timedelta(days=days_ago)},
        )
    return export


async def backdate(session: AsyncSession, which: str, days: int, **values: str) -> None:
    await session.execute(text("ALTER TABLE events DISABLE TRIGGER events_never_change"))
    await session.execute(
        text(f"UPDATE events SET created_at = created_at - :age WHERE {which}"),
        values | {"age": timedelta(days=days)},
    )
    await session.execute(text("ALTER TABLE events ENABLE TRIGGER events_never_change"))


async def events_of(sessions: Sessions, export: Export) -> int:
    async with sessions() as session:
        return await session.scalar(select(func.count()).where(Event.export == export.id)) or 0


async def broken(sessions: Sessions) -> set[Promise]:
    async with sessions() as session:
        return {violation.promise async for violation in violations(session)}


async def test_an_exports_events_are_forgotten_together(
    ctx: Context, sessions: Sessions, tenant: Tenant
) -> None:
    old, young = await ended(sessions, tenant, RETENTION + 1), await ended(sessions, tenant, RETENTION - 1)
    async with sessions.begin() as session:
        waiting = await an_export(session, tenant)
        await backdate(session, "export = :export", export=waiting.id, days=RETENTION + 1)
    assert await forget_events(ctx) == 2
    assert [await events_of(sessions, export) for export in (old, young, waiting)] == [0, 2, 1]
    async with sessions() as session:
        feed = await session.get_one(EventFeed, True)
        assert feed.forgotten_position < feed.last_position
        assert feed.forgotten_position + 1 == await session.scalar(
            select(func.min(Event.position)).where(Event.export == young.id)
        )
    assert not await broken(sessions)
    assert await forget_events(ctx) == 0


async def test_what_is_about_no_export_is_forgotten_by_its_age(
    ctx: Context, sessions: Sessions, tenant: Tenant
) -> None:
    async with sessions.begin() as session:
        await record(session, EventType.SECRETS_ROTATED, actor="old")
        await backdate(session, "actor = 'old'", days=RETENTION + 1)
        await record(session, EventType.SECRETS_ROTATED, actor="young")
    await forget_events(ctx)
    async with sessions() as session:
        kept = set(await session.scalars(select(Event.actor)))
    assert "young" in kept
    assert "old" not in kept


async def test_a_story_that_was_lost_is_told_from_one_that_was_forgotten(
    ctx: Context, sessions: Sessions, tenant: Tenant
) -> None:
    await ended(sessions, tenant, RETENTION + 1)
    young = await ended(sessions, tenant, RETENTION - 1)
    await forget_events(ctx)
    assert not await broken(sessions)
    async with sessions.begin() as session:
        await session.execute(text("DELETE FROM events WHERE export = :export"), {"export": young.id})
    assert await broken(sessions) == {Promise.RECORDED}


async def test_a_long_log_is_forgotten_some_at_a_time(
    ctx: Context, sessions: Sessions, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forget, "AT_ONCE", 3)
    exports = [await ended(sessions, tenant, RETENTION + 2 - number % 2) for number in range(4)]
    async with sessions.begin() as session:
        many = [new_event(EventType.SECRETS_ROTATED, actor="old") for _ in range(10)]
        await record_all(session, many)
        await backdate(session, "actor = 'old'", days=RETENTION + 1)
    assert await forget_events(ctx) == 10 + 2 * len(exports)


async def test_one_worker_forgets_at_a_time(ctx: Context, sessions: Sessions, tenant: Tenant) -> None:
    await ended(sessions, tenant, RETENTION + 1)
    async with sessions.begin() as session:
        assert await elected(session, FORGETTING_DUTY)
        assert await forget_events(ctx) == 0
    assert await forget_events(ctx) == 2
