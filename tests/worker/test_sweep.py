"""The net under everything else."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.worker.context import Context
from app.worker.sweep import sweep
from tests.builders import Tenant, an_export
from tests.worker.conftest import begun


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
