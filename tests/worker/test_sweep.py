"""The net under everything else."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.placing import any_unplaced
from app.worker.context import Context
from app.worker.sweep import sweep
from tests.builders import Tenant, an_export
from tests.worker.conftest import begun


async def test_events_have_their_places_though_nobody_reads(
    ctx: Context, sessions: async_sessionmaker[AsyncSession], tenant: Tenant
) -> None:
    async with sessions.begin() as session:
        await an_export(session, tenant)
        assert await any_unplaced(session)
    await sweep(ctx)
    async with sessions() as session:
        assert not await any_unplaced(session)


async def test_a_lane_with_work_but_no_flag_is_mended(
    ctx: Context, sessions: async_sessionmaker[AsyncSession], tenant: Tenant
) -> None:
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
    assert await sweep(ctx) == 0
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET has_work = false"))
    assert await sweep(ctx) == 1
    _, run = await begun(ctx)
    assert run.id == export.run
