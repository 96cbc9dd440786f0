"""One life of a worker: how it begins, what it finds, and what it leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from app.access.vault import VaultError
from app.clock import SystemClock
from app.database.session import Database
from app.exports.models import Export, Phase, Run, Status
from app.exports.states import change, locked_run
from app.lanes.models import Lane
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.settings import Settings
from app.worker.context import Context
from app.worker.process import WorkerProcess, run_worker, worker_context
from tests.builders import Tenant, an_export, another_workspace
from tests.conftest import a_secret_key
from tests.model.stage import LossySessions
from tests.processes import until
from tests.worker.conftest import crashes

Sessions = async_sessionmaker[AsyncSession]


@dataclass
class Life:
    """A worker that lives, and the word to stop."""

    task: asyncio.Task[None]
    stop: asyncio.Event


@asynccontextmanager
async def living(ctx: Context, database: Database) -> AsyncIterator[Life]:
    stop = asyncio.Event()
    life = Life(asyncio.create_task(WorkerProcess(ctx, database, stop).run()), stop)
    try:
        yield life
    finally:
        stop.set()
        await life.task


@pytest.fixture
async def export(sessions: Sessions, tenant: Tenant, sandbox: SandboxControl) -> Export:
    """Its job takes longer than any test."""
    sandbox.patch(run_seconds=(86_400, 86_400))
    async with sessions.begin() as session:
        return await an_export(session, tenant)


async def until_it_has_a_job(sessions: Sessions, export: Export) -> None:
    async def look() -> bool | None:
        async with sessions() as session:
            return (await session.get_one(Run, export.run)).asana_job is not None or None

    await until(look, 15, lambda: f"a job of {export.id}")


async def test_a_worker_whose_keys_do_not_fit_the_tokens_does_not_start(
    hasty: Settings, database: Database, tenant: Tenant
) -> None:
    others = hasty.model_copy(update={"secret_keys": (a_secret_key(),)})
    stop = asyncio.Event()
    stop.set()
    with pytest.raises(VaultError, match="no key"):
        await run_worker(others, database, stop)


async def test_a_fault_of_a_duty_is_counted_and_stops_nothing(
    ctx: Context, database: Database, sessions: Sessions, export: Export
) -> None:
    crashed = crashes("duty")
    async with sessions.begin() as session:
        await session.execute(text("ALTER TABLE conversions RENAME TO elsewhere"))
    async with living(ctx, database) as life:

        async def seen() -> bool | None:
            return crashes("duty") > crashed or None

        await until(seen, 20, lambda: "a crash")
        await until_it_has_a_job(sessions, export)
        assert not life.task.done()


async def test_with_its_lease_a_worker_stops_everything(
    ctx: Context, database: Database, sessions: Sessions, export: Export
) -> None:
    lost = REGISTRY.get_sample_value("asana_exports_leases_lost_total")
    async with living(ctx, database) as life:
        await until_it_has_a_job(sessions, export)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 s'"))
        await asyncio.wait_for(life.task, 20)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("lane ")]
    assert REGISTRY.get_sample_value("asana_exports_leases_lost_total") == (lost or 0) + 1


async def test_a_worker_that_cannot_renew_its_lease_stops_by_its_own_clock(
    hasty: Settings, database: Database
) -> None:
    nowhere = create_async_engine("postgresql+psycopg://127.0.0.1:1/nowhere")
    deaf = replace(database, vitals=async_sessionmaker(nowhere))
    short = hasty.model_copy(update={"lease_seconds": 1.0})
    async with worker_context(short, database, SystemClock()) as ctx:
        await asyncio.wait_for(WorkerProcess(ctx, deaf, asyncio.Event()).run(), 15)


async def test_a_worker_told_to_stop_gives_its_lanes_away(
    ctx: Context, database: Database, sessions: Sessions, export: Export
) -> None:
    async with living(ctx, database):
        await until_it_has_a_job(sessions, export)
    async with sessions() as session:
        assert (await session.get_one(Lane, export.lane)).holder is None
        assert (await session.get_one(Run, export.run)).status is Status.RUNNING


async def test_a_claim_whose_answer_was_lost_does_not_leave_a_lane_standing(
    ctx: Context, database: Database, sessions: Sessions, export: Export
) -> None:
    lossy = LossySessions(database.engine, expire_on_commit=False)
    lossy.lose_answer = True
    async with living(ctx, replace(database, sessions=lossy)):
        await until_it_has_a_job(sessions, export)


async def test_work_is_found_without_notifications(
    ctx: Context, database: Database, sessions: Sessions, tenant: Tenant, export: Export
) -> None:
    async with living(ctx, replace(database, listen_conninfo="host=/nowhere")):
        await until_it_has_a_job(sessions, export)
        async with sessions.begin() as session:
            following = await an_export(session, await another_workspace(session, tenant, "1002"))
        await until_it_has_a_job(sessions, following)


async def test_files_lost_with_a_worker_are_fetched_one_at_a_time(
    ctx: Context, database: Database, sessions: Sessions, tenant: Tenant, sandbox: SandboxControl
) -> None:
    sandbox.add_fault(Call.JOB, FaultKind.DELAY, delay=20, times=None)
    async with sessions.begin() as session:
        for place in (tenant, await another_workspace(session, tenant, "1002")):
            run = await locked_run(session, (await an_export(session, place)).run)
            await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING, asana_job="1")
            await change(session, run, Status.ARCHIVING, actor="test", lost_archivers=["gone"])

    async def in_hand() -> int | None:
        async with sessions() as session:
            taken = select(func.count()).select_from(Run).where(Run.archiver.is_not(None))
            return await session.scalar(taken) or None

    async with living(ctx, database):
        assert await until(in_hand, 20, lambda: "a file to be taken") == 1
