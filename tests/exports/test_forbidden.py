"""When a credential that was never let in is given up, and how far a refusal reaches."""

import pytest
from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.exports.accept import Rules, Submission, accept
from app.exports.forbidden import forbid, never_admitted
from app.exports.models import Export, Run, Status
from app.exports.requests import GraphRequest
from app.ids import new_worker_id
from app.lanes.claim import claim_lanes
from app.lanes.lease import register_worker
from app.lanes.models import Lane, WaitReason
from tests.builders import Tenant, a_tenant, an_export

Sessions = async_sessionmaker[AsyncSession]
DAY = 86_400.0
OLD = "now() - interval '25 hours'"


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


@pytest.fixture
async def refused(sessions: Sessions, tenant: Tenant) -> Run:
    """A run that has been refused for 25 hours, as all of its credential."""
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        await session.execute(update(Lane).values(wait_reason=WaitReason.UPSTREAM_SLOT_BUSY))
        await session.execute(text(f"UPDATE lane_waits SET since = {OLD}"))
        await session.execute(text(f"UPDATE runs SET queued_at = {OLD}"))
        await session.execute(text(f"UPDATE credentials SET updated_at = {OLD}"))
    async with sessions() as session:
        return await session.get_one(Run, export.run)


async def test_refused_for_a_day_and_never_let_in(sessions: Sessions, refused: Run) -> None:
    async with sessions() as session:
        assert await never_admitted(session, refused, DAY)
        assert not await never_admitted(session, refused, 2 * DAY)


@pytest.mark.parametrize(
    "otherwise",
    [
        "UPDATE runs SET queued_at = now()",
        "UPDATE credentials SET updated_at = now()",
        "UPDATE lanes SET wait_reason = NULL",
        "UPDATE runs SET submitted_at = now()",
        "UPDATE runs SET attempt = 2",
    ],
)
async def test_a_credential_that_was_let_in_or_came_lately_has_time(
    sessions: Sessions, refused: Run, otherwise: str
) -> None:
    async with sessions.begin() as session:
        await session.execute(text(otherwise))
        assert not await never_admitted(session, refused, DAY)


async def test_a_refused_graph_says_nothing_of_others(sessions: Sessions, tenant: Tenant) -> None:
    async with sessions.begin() as session:
        graphs = [
            await accept(
                session, tenant.client, Submission(GraphRequest(workspace="1001", parent=parent)), Rules()
            )
            for parent in ("1", "2")
        ]
        tasks = await an_export(session, tenant)
        await register_worker(session, worker := new_worker_id(), "test", 60)
        (lane,) = await claim_lanes(session, worker, 1)
        refused = await session.get_one(Run, graphs[0].run)
        assert not await forbid(session, lane, refused, "as tested")
    async with sessions() as session:
        ended = [(await session.get_one(Export, export.id)).status for export in (*graphs, tasks)]
    assert ended == [Status.FAILED, Status.QUEUED, Status.QUEUED]


async def test_all_by_a_refused_credential_fail_some_at_a_time(
    sessions: Sessions, tenant: Tenant, refused: Run
) -> None:
    async with sessions.begin() as session:
        exports = [await an_export(session, tenant) for _ in range(14)]
        await session.execute(text("UPDATE lanes SET next_attempt_at = now() - interval '1 s'"))
        await register_worker(session, worker := new_worker_id(), "test", 60)
        (lane,) = await claim_lanes(session, worker, 1)
        assert await forbid(session, lane, refused, "as tested")
        assert not await forbid(session, lane, refused, "as tested")
    async with sessions() as session:
        for export in exports:
            failed = await session.get_one(Export, export.id)
            assert failed.error is not None
            assert failed.error["code"] == "upstream-forbidden"
