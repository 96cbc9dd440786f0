"""A worker's stories told in this process, on a real database and the sandbox Asana."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.artifacts.models import Artifact
from app.clock import SystemClock
from app.database.session import Database
from app.events.log import Event
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Run
from app.exports.requests import ExportRequest
from app.exports.runs import HeldArchive, free_slot, next_run
from app.lanes.claim import HeldLane, claim_lanes
from app.lanes.lease import register_worker
from app.sandbox.control import SandboxControl
from app.settings import Settings
from app.worker.archive import Archiving
from app.worker.context import Context
from app.worker.poll import Succeeded, poll
from app.worker.process import worker_context
from app.worker.submit import submit
from tests.builders import Tenant, a_tenant
from tests.stores import S3

Sessions = async_sessionmaker[AsyncSession]


class MovedClock(SystemClock):
    """A clock that is so far `ahead`, and leaps at each look."""

    ahead = leap = 0.0

    def monotonic(self) -> float:
        self.ahead += self.leap
        return super().monotonic() + self.ahead


@pytest.fixture
def hasty(settings: Settings, sandbox: SandboxControl) -> Settings:
    """In a hurry in everything but its lease, which only ends where a test ends it."""
    return settings.model_copy(
        update={
            "asana_url": sandbox.api_url,
            "download_hosts": ("127.0.0.1",),
            "download_allow_http": True,
            "webhook_allow": ("127.0.0.0/8",),
            "webhook_allow_http": True,
            "poll_min_seconds": 0.05,
            "poll_max_seconds": 0.3,
            "backoff_min_seconds": 0.1,
            "backoff_max_seconds": 0.5,
            "idle_poll_seconds": 0.3,
            "lease_seconds": 600.0,
            "beat_seconds": 0.2,
        }
    )


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
async def ctx(hasty: Settings, database: Database, clock: MovedClock) -> AsyncIterator[Context]:
    async with worker_context(hasty, database, clock) as context:
        yield context


@pytest.fixture
async def tenant(sessions: async_sessionmaker[AsyncSession], vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


def placed(hasty: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With its files in the folder or in the bucket that a fixture is asked for."""
    if request.param == "folder":
        return hasty
    s3: S3 = request.getfixturevalue("s3")
    s3.be_known(monkeypatch)
    return hasty.model_copy(update={"store_url": s3.place()})


async def begun(ctx: Context) -> tuple[HeldLane, Run]:
    """The one lane that has work is the worker's, and its head is about to be asked for."""
    await ctx.write(register_worker, ctx.lease.worker, "test", 600)
    (lane,) = await ctx.write(claim_lanes, ctx.lease.worker, 1)
    run = await ctx.write(next_run, lane, credential_wait=60)
    assert run is not None
    return lane, run


async def ended_well(ctx: Context) -> HeldArchive:
    """The job of the one run there is has ended well at Asana, and its file is to be fetched."""
    lane, run = await begun(ctx)
    started = await submit(ctx, lane, run)
    assert started is not None
    assert isinstance(await poll(ctx, lane, started), Succeeded)
    archive = await ctx.write(
        free_slot, lane, run.id, data_from=None, data_to=None, warnings=[], archive_here=True
    )
    assert archive is not None
    return archive


async def archived_file(ctx: Context, sessions: Sessions, tenant: Tenant, request: ExportRequest) -> Artifact:
    """What has come of an export that went the whole way."""
    async with sessions.begin() as session:
        await accept(session, tenant.client, Submission(request), Rules())
    archive = await ended_well(ctx)
    archiving = Archiving(ctx)
    archiving.start(archive)
    await asyncio.wait(archiving.tasks)
    async with sessions() as session:
        return (await session.scalars(select(Artifact).where(Artifact.run == archive.run))).one()


async def stored(ctx: Context) -> set[str]:
    """All keys in the store."""
    return {entry.key async for entry in ctx.store.files()}


async def events_of(sessions: Sessions, artifact: Artifact) -> list[Event]:
    """What happened to a file."""
    about = select(Event).where(Event.data["artifact"].astext == artifact.id).order_by(Event.seq)
    async with sessions() as session:
        return list(await session.scalars(about))


def crashes(part: str) -> float:
    """How often this process has counted a fault of its own code in that part."""
    return REGISTRY.get_sample_value("asana_exports_crashes_total", {"part": part}) or 0.0
