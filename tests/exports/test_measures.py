"""How the whole service stands, as Prometheus is told."""

from datetime import timedelta

from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import EVERYBODY
from app.access.vault import Vault
from app.events.log import Cause
from app.exports.attention import acknowledge
from app.exports.estimates import hit_ratio
from app.exports.measures import Measures, measures
from app.exports.models import Phase, Run, Status
from app.exports.states import change, locked_run
from app.ids import LaneKey, new_worker_id
from app.lanes.claim import claim_lanes
from app.lanes.control import pause
from app.lanes.lease import register_worker
from app.lanes.models import Lane, Worker
from tests.builders import Tenant, a_tenant, an_export, another_workspace

Sessions = async_sessionmaker[AsyncSession]
SIX_HOURS = 21_600.0
NEARLY_ALIKE = text("""
    UPDATE runs
    SET status = 'succeeded', submitted_at = at, slot_freed_at = at + took, finished_at = at + took
    FROM (
        SELECT id, now() - interval '1 day' + number * interval '10 minutes' AS at,
            CASE number WHEN 10 THEN 500 ELSE 100 + number % 3 END * interval '1 second' AS took
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM runs) AS numbered) AS past
    WHERE past.id = runs.id
""")


async def now_of(sessions: Sessions) -> Measures:
    async with sessions() as session:
        return await measures(session, SIX_HOURS)


async def tenants(sessions: Sessions, vault: Vault, *workspaces: str) -> list[Tenant]:
    async with sessions.begin() as session:
        first = await a_tenant(session, vault, workspaces[0])
        return [first, *[await another_workspace(session, first, gid) for gid in workspaces[1:]]]


async def lane_is(sessions: Sessions, workspace: str, **columns: object) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Lane).where(Lane.key == workspace).values(columns))


async def test_a_service_without_work_is_at_rest(sessions: Sessions) -> None:
    now = await now_of(sessions)
    assert (now.workers, now.queued, now.queue_oldest_seconds, now.slot_idle_seconds) == (0, 0, 0.0, 0.0)
    assert {*now.lanes.values(), *now.attention.values()} == {0}
    assert now.eta_p90_hit_ratio is None


async def test_lanes_are_counted_by_what_they_do(sessions: Sessions, vault: Vault) -> None:
    gids = ("1001", "1002", "1003", "1004", "1005")
    for tenant in await tenants(sessions, vault, *gids):
        async with sessions.begin() as session:
            export = await an_export(session, tenant)
            if tenant.workspace == "1002":
                run = await locked_run(session, export.run)
                await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING)
            if tenant.workspace == "1003":
                await pause(session, LaneKey("1003"), "1003", Cause("test"))
            if tenant.workspace == "1005":
                await session.execute(
                    update(Run).where(Run.lane == "1005").values(status="canceled", finished_at=func.now())
                )
    await lane_is(sessions, "1004", wait_reason="upstream_slot_busy")
    lanes = (await now_of(sessions)).lanes
    assert {state: count for state, count in lanes.items() if count} == {
        "queued": 1,
        "running": 1,
        "paused": 1,
        "upstream_slot_busy": 1,
        "idle": 1,
    }


async def test_what_could_be_served_and_is_not_is_told(sessions: Sessions, vault: Vault) -> None:
    """By when the lane was free for a worker, not by the age of its queue: no worker can help with that."""
    (tenant,) = await tenants(sessions, vault, "1001")
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        an_hour_ago = func.now() - timedelta(hours=1)
        await session.execute(update(Run).where(Run.id == export.run).values(queued_at=an_hour_ago))
    await lane_is(sessions, "1001", next_attempt_at=func.now() - timedelta(seconds=100))
    waiting = await now_of(sessions)
    assert waiting.queued == 1
    assert 3600 <= waiting.queue_oldest_seconds < 3660
    assert 100 <= waiting.slot_idle_seconds < 160

    worker = new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "one", 60)
        await claim_lanes(session, worker, 1)
    served = await now_of(sessions)
    assert (served.workers, served.slot_idle_seconds) == (1, 0.0)

    async with sessions.begin() as session:
        await session.execute(update(Worker).values(lease_expires_at=func.now() - timedelta(seconds=30)))
    orphaned = await now_of(sessions)
    assert orphaned.workers == 0
    assert 30 <= orphaned.slot_idle_seconds < 90


async def test_what_needs_attention_is_counted_until_somebody_has_seen_it(
    sessions: Sessions, vault: Vault
) -> None:
    (tenant,) = await tenants(sessions, vault, "1001")
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        failed = {"status": "failed", "finished_at": func.now(), "error": {"code": "upstream-rejected"}}
        await session.execute(update(Run).where(Run.id == export.run).values(failed))
    assert (await now_of(sessions)).attention["exports-failed"] == 1
    async with sessions.begin() as session:
        item = "exports-failed.1001.upstream-rejected"
        await acknowledge(session, EVERYBODY, item, SIX_HOURS, Cause("test"))
    assert (await now_of(sessions)).attention["exports-failed"] == 0


async def test_estimates_are_judged_by_what_was_known_when_asana_took_the_run(
    sessions: Sessions, vault: Vault
) -> None:
    """Of ten that have at least five before them, one takes far longer."""
    (tenant,) = await tenants(sessions, vault, "1001")
    async with sessions.begin() as session:
        for _ in range(15):
            await an_export(session, tenant)
        await session.execute(NEARLY_ALIKE)
        assert await hit_ratio(session) == 0.9
