"""A slot that Asana says is taken: place and attempt are kept, the lane probes."""

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.events.log import Cause, Event
from app.exports.forbidden import slot_refused
from app.exports.models import Export, Phase, Run, Status
from app.exports.runs import about_to_submit, put_back, submitted
from app.ids import LaneKey
from app.lanes.claim import HeldLane
from app.lanes.control import pause
from app.lanes.models import Lane, LaneWait, WaitReason
from tests.builders import Tenant
from tests.lanes.stage import a_worker, by_another_credential, claimed, queued, started

Sessions = async_sessionmaker[AsyncSession]


async def test_a_refused_slot_keeps_place_and_attempt_and_lets_the_lane_wait(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await slot_refused(session, lane, run.id, lambda probes: 60 + probes)
    assert await started(sessions, lane) is None
    assert await claimed(sessions, worker) == []
    async with sessions() as session:
        after = await session.get_one(Run, run.id)
        waiting = await session.get_one(Lane, LaneKey(tenant.workspace))
    assert (after.status, after.attempt, after.queued_at) == (Status.QUEUED, 1, run.queued_at)
    assert (waiting.wait_reason, waiting.probes, waiting.holder) == (WaitReason.UPSTREAM_SLOT_BUSY, 1, None)


async def test_probing_a_taken_slot_again_is_no_news_to_the_callers(
    sessions: Sessions, tenant: Tenant
) -> None:
    export = await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))

    async def probed() -> int:
        run = await started(sessions, lane)
        assert run is not None
        async with sessions.begin() as session:
            await slot_refused(session, lane, run.id, lambda _: 0)
        async with sessions() as session:
            seen = await session.get_one(Export, export.id)
            assert (seen.status, seen.started_at) == (Status.QUEUED, None)
            return seen.version

    first, *later = [await probed() for _ in range(4)]
    assert later == [first] * 3
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await submitted(session, lane, run.id, "1", None)
    async with sessions() as session:
        seen = await session.get_one(Export, export.id)
        story = await session.scalars(select(Event.type).where(Event.export == export.id).order_by(Event.seq))
        assert (seen.status, seen.version) == (Status.RUNNING, first + 1)
        assert seen.started_at is not None
        assert list(story) == ["export.created", "export.progressed", "export.progressed", "export.started"]


async def refused_thrice(sessions: Sessions, lane: HeldLane) -> Run | None:
    """The lane's head has been refused twice, and now once more; returns what is tried instead."""
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET probes = 2, wait_reason = 'upstream_slot_busy'"))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        return await slot_refused(session, lane, run.id, lambda _: 60)


async def test_after_three_refusals_another_credential_is_tried_at_once_unless_the_lane_is_paused(
    sessions: Sessions, vault: Vault, tenant: Tenant
) -> None:
    first = await queued(sessions, tenant)
    other = await by_another_credential(sessions, vault, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    tried = await refused_thrice(sessions, lane)
    assert tried is not None
    assert (tried.id, tried.phase) == (other.run, Phase.SUBMITTING)
    async with sessions.begin() as session:
        before = [await session.get_one(Run, first.run)]
        assert await slot_refused(session, lane, tried.id, lambda _: 0, before=before) is None
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET next_attempt_at = now() - interval '1 s'"))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await pause(session, lane.key, tenant.workspace, Cause("test"))
    async with sessions.begin() as session:
        assert await slot_refused(session, lane, run.id, lambda _: 60) is None


async def test_what_was_not_yet_asked_of_asana_is_not_asked_of_a_paused_lane(
    sessions: Sessions, tenant: Tenant
) -> None:
    export = await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await pause(session, lane.key, tenant.workspace, Cause("test"))
    async with sessions.begin() as session:
        assert not await about_to_submit(session, lane, run.id, Phase.SUBMITTING)
    assert await started(sessions, lane) is None
    async with sessions() as session:
        assert (await session.get_one(Export, export.id)).status is Status.QUEUED


async def test_trying_another_credential_bears_being_repeated(
    sessions: Sessions, vault: Vault, tenant: Tenant
) -> None:
    first = await queued(sessions, tenant)
    await by_another_credential(sessions, vault, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    tried = await refused_thrice(sessions, lane)
    async with sessions.begin() as session:
        again = await slot_refused(session, lane, first.run, lambda _: 60)
    assert tried is not None
    assert again is not None
    assert again.id == tried.id


async def test_a_rate_limit_does_not_make_the_probes_forget(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    await refused_thrice(sessions, lane)
    async with sessions() as session:
        since = await session.scalar(select(LaneWait.since).where(LaneWait.until.is_(None)))
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET next_attempt_at = now() - interval '1 s'"))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await put_back(session, lane, run.id, WaitReason.RATE_LIMITED, 90)
    async with sessions() as session:
        waiting = await session.get_one(Lane, lane.key)
        assert (waiting.probes, waiting.wait_reason) == (3, WaitReason.UPSTREAM_SLOT_BUSY)
        assert await session.scalar(select(LaneWait.since).where(LaneWait.until.is_(None))) == since
