"""Workers fire what is due by the database's clock, and one schedule does not hold up the others."""

import asyncio
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.exports.models import Export
from app.worker.context import Context
from app.worker.schedules import tick_schedules
from tests.builders import Tenant, a_schedule
from tests.worker.conftest import crashes

Sessions = async_sessionmaker[AsyncSession]
DUE = text("UPDATE schedules SET next_slot = now(), fires_at = now()")


async def fired(sessions: Sessions) -> list[str | None]:
    async with sessions() as session:
        return list(await session.scalars(select(Export.schedule).order_by(Export.id)))


async def test_what_is_due_is_fired_once_by_however_many_workers(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    async with sessions.begin() as session:
        schedules = {await a_schedule(session, tenant, datetime.now(UTC)) for _ in range(3)}
    await tick_schedules(ctx)
    assert await fired(sessions) == []
    async with sessions.begin() as session:
        await session.execute(DUE)
    await asyncio.gather(*(tick_schedules(ctx) for _ in range(3)))
    assert sorted(map(str, await fired(sessions))) == sorted(schedules)


async def test_one_that_cannot_be_fired_does_not_hold_up_the_others(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=1)
    async with sessions.begin() as session:
        broken = await a_schedule(session, tenant, long_ago)
        sound = await a_schedule(session, tenant, datetime.now(UTC))
        await session.execute(DUE)
        nowhere = text("UPDATE schedules SET timezone = 'Mars/Olympus' WHERE id = :id")
        await session.execute(nowhere, {"id": broken})
    crashed = crashes("schedule")
    await tick_schedules(ctx)
    assert await fired(sessions) == [sound]
    assert crashes("schedule") == crashed + 1
