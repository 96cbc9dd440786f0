"""Free lanes are given to workers, each to one."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.ids import LaneKey
from app.lanes.claim import overdue_lanes, rescue_lanes
from app.lanes.enqueue import lock_lane
from app.lanes.lease import hold
from app.lanes.release import disown
from tests.builders import Tenant
from tests.lanes.stage import a_worker, claimed, claimed_alone, ended, queued, started

Sessions = async_sessionmaker[AsyncSession]


async def test_a_lane_with_work_is_claimed_once(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    one, two = await a_worker(sessions), await a_worker(sessions)
    claims = await asyncio.gather(*(claimed(sessions, worker) for worker in (one, two)))
    assert [lane.key for lanes in claims for lane in lanes] == [tenant.workspace]


async def test_a_lane_without_work_is_not_claimed(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    await ended(sessions, run)
    assert await started(sessions, lane) is None
    assert await claimed(sessions, worker) == []


async def test_rescue_does_not_wait_behind_a_zombie_in_the_middle_of_a_transaction(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    async with sessions.begin() as zombie:
        await hold(zombie, lane)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
        async with asyncio.timeout(5), sessions.begin() as session:
            assert await rescue_lanes(session) == 0


async def test_a_claim_whose_answer_was_lost_is_given_back(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    worker, other = await a_worker(sessions), await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        assert await disown(session, worker, [lane]) == 0
    assert await claimed(sessions, other) == []
    async with sessions.begin() as session:
        assert await disown(session, worker, []) == 1
    (again,) = await claimed(sessions, other)
    assert (again.key, again.fence) == (lane.key, lane.fence + 1)


async def test_a_lane_whose_lock_is_always_taken_is_claimed_by_queueing(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    worker, key = await a_worker(sessions), LaneKey(tenant.workspace)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET next_attempt_at = now() - interval '2 seconds'"))
    async with sessions.begin() as session:
        await lock_lane(session, key)
        assert await claimed(sessions, worker) == []
        async with sessions() as other:
            assert await overdue_lanes(other, 10) == [key]
        queueing = asyncio.create_task(claimed_alone(sessions, worker, key))
        await asyncio.sleep(0.1)
    assert await queueing is not None
    assert await claimed_alone(sessions, worker, key) is None
