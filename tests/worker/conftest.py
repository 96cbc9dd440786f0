"""A worker's stories told in this process, on a real database and the sandbox Asana."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.clock import SystemClock
from app.database.session import Database
from app.exports.models import Run
from app.exports.runs import next_run
from app.lanes.claim import HeldLane, claim_lanes
from app.lanes.lease import register_worker
from app.sandbox.control import SandboxControl
from app.settings import Settings
from app.worker.context import Context
from app.worker.process import worker_context
from tests.builders import Tenant, a_tenant


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


async def begun(ctx: Context) -> tuple[HeldLane, Run]:
    """The one lane that has work is the worker's, and its head is about to be asked for."""
    await ctx.write(register_worker, ctx.lease.worker, "test", 600)
    (lane,) = await ctx.write(claim_lanes, ctx.lease.worker, 1)
    run = await ctx.write(next_run, lane, credential_wait=60)
    assert run is not None
    return lane, run
