"""What the tests of lanes do time and again: workers, claims, runs that are started and ended."""

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Priority, Workspace
from app.access.vault import Vault
from app.exports.models import Export, Run, Status
from app.exports.runs import HeldArchive, free_slot, next_run, submitted
from app.exports.states import change, locked_run
from app.ids import CredentialId, LaneKey, WorkerId, new_worker_id
from app.lanes.claim import HeldLane, claim_lane, claim_lanes
from app.lanes.lease import register_worker
from tests.builders import Tenant, a_tenant, an_export

Sessions = async_sessionmaker[AsyncSession]


async def a_worker(sessions: Sessions, lease: float = 60) -> WorkerId:
    worker = new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", lease)
    return worker


async def claimed(sessions: Sessions, worker: WorkerId, most: int = 100) -> list[HeldLane]:
    async with sessions.begin() as session:
        return await claim_lanes(session, worker, most)


async def claimed_alone(sessions: Sessions, worker: WorkerId, key: LaneKey) -> HeldLane | None:
    async with sessions.begin() as session:
        return await claim_lane(session, worker, key)


async def started(sessions: Sessions, lane: HeldLane) -> Run | None:
    async with sessions.begin() as session:
        return await next_run(session, lane, credential_wait=60)


async def ended(sessions: Sessions, run: Run) -> None:
    async with sessions.begin() as session:
        await change(session, await locked_run(session, run.id), Status.FAILED, actor="test")


async def queued(sessions: Sessions, tenant: Tenant, priority: Priority = Priority.NORMAL) -> Export:
    async with sessions.begin() as session:
        return await an_export(session, tenant, priority=priority)


async def archiving(sessions: Sessions, export: Export) -> HeldArchive:
    """Its job has ended well, and the worker that followed it is about to fetch the file."""
    (lane,) = await claimed(sessions, await a_worker(sessions))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await submitted(session, lane, run.id, "1", None)
        archive = await free_slot(
            session, lane, run.id, data_from=None, data_to=None, warnings=[], archive_here=True
        )
    assert archive is not None
    return archive


async def by_another_credential(sessions: Sessions, vault: Vault, tenant: Tenant) -> Export:
    async with sessions.begin() as session:
        other = await a_tenant(session, vault, "1002")
        workspace = await session.get_one(Workspace, tenant.workspace)
        workspace.credential = CredentialId(other.credential)
    return await queued(sessions, tenant)
