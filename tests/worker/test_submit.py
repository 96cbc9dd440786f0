"""When Asana is asked, and when not."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.exports.accept import Rules, Submission, accept
from app.exports.models import Run, Status
from app.exports.requests import GraphRequest
from app.lanes.lease import LaneLost
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.worker.context import Context
from app.worker.submit import submit
from tests.builders import Tenant, an_export
from tests.processes import until
from tests.worker.conftest import MovedClock, begun

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def run_id(sessions: Sessions, tenant: Tenant) -> str:
    async with sessions.begin() as session:
        return (await an_export(session, tenant)).run


async def test_a_worker_that_slept_through_its_lease_does_not_ask_asana(
    ctx: Context, clock: MovedClock, sandbox: SandboxControl, run_id: str
) -> None:
    """Though the database does not know of it, for its own clock went on."""
    lane, run = await begun(ctx)
    assert run.id == run_id
    clock.ahead += ctx.lease.seconds
    with pytest.raises(LaneLost):
        await submit(ctx, lane, run)
    assert sandbox.journal(call=Call.RESOURCE) == []


async def test_a_lane_that_was_lost_while_something_else_was_asked_starts_nothing(
    ctx: Context, clock: MovedClock, sandbox: SandboxControl, sessions: Sessions, run_id: str
) -> None:
    lane, run = await begun(ctx)
    assert run.id == run_id
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET fence = fence + 1"))
    clock.leap = 2
    with pytest.raises(LaneLost):
        await submit(ctx, lane, run)
    assert sandbox.journal(call=Call.RESOURCE) == []


async def test_a_worker_told_to_stop_writes_down_the_job_it_has_asked_for(
    ctx: Context, sandbox: SandboxControl, sessions: Sessions, run_id: str
) -> None:
    lane, run = await begun(ctx)
    sandbox.add_fault(Call.RESOURCE, FaultKind.DELAY, delay=2)
    asking = asyncio.create_task(submit(ctx, lane, run))

    async def asked() -> bool | None:
        return not sandbox.faults() or None

    await until(asked, 20, lambda: "a request for a job")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with sessions() as session:
        assert (await session.get_one(Run, run_id)).asana_job is not None


async def test_a_parent_elsewhere_is_not_exported(
    ctx: Context, sandbox: SandboxControl, sessions: Sessions, tenant: Tenant
) -> None:
    async with sessions.begin() as session:
        wanted = Submission(GraphRequest(workspace="1001", parent="10022001"))
        export = await accept(session, tenant.client, wanted, Rules())
    assert await submit(ctx, *await begun(ctx)) is None
    async with sessions() as session:
        assert (await session.get_one(Run, export.run)).status is Status.FAILED
    assert sandbox.journal(call=Call.GRAPH) == []
