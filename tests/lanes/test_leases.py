"""The fence: who no longer holds a lane writes nothing."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.exports.models import Run
from app.exports.runs import submitted
from app.ids import new_worker_id
from app.lanes.claim import rescue_lanes
from app.lanes.enqueue import lock_lane
from app.lanes.lease import LaneLost, LeaseLost, beat, hold, register_worker
from app.lanes.release import disown
from tests.builders import Tenant
from tests.lanes.stage import a_worker, claimed, queued, started

Sessions = async_sessionmaker[AsyncSession]


async def test_a_holder_of_the_past_writes_nothing(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    zombie = await a_worker(sessions)
    (old,) = await claimed(sessions, zombie)
    run = await started(sessions, old)
    assert run is not None
    async with sessions.begin() as session:
        await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
    async with sessions.begin() as session:
        assert await rescue_lanes(session) == 1
    (new,) = await claimed(sessions, await a_worker(sessions))
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await submitted(session, old, run.id, "zombie", None)
    async with sessions.begin() as session:
        await submitted(session, new, run.id, "living", None)
        assert (await session.get_one(Run, run.id)).asana_job == "living"


async def test_a_lane_that_was_given_away_is_lost_though_nobody_took_it(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        await disown(session, worker, [])
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await hold(session, lane)


async def test_a_holding_that_is_over_writes_nothing_though_the_same_worker_holds_again(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (before,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        await disown(session, worker, [])
    (now,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        await hold(session, now)
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await hold(session, before)


async def test_lanes_of_a_living_worker_are_left_alone(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    await claimed(sessions, await a_worker(sessions))
    async with sessions.begin() as session:
        assert await rescue_lanes(session) == 0


async def test_a_lapsed_lease_stops_the_holder_though_nobody_took_over(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    async with sessions.begin() as session:
        await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await hold(session, lane)


async def test_a_lapsed_lease_is_never_revived(sessions: Sessions) -> None:
    worker = await a_worker(sessions)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
    with pytest.raises(LeaseLost):
        async with sessions.begin() as session:
            await beat(session, worker, 60)


async def test_a_lease_that_runs_out_behind_a_lock_is_noticed(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions, lease=60)
    (lane,) = await claimed(sessions, worker)

    async def held() -> None:
        async with sessions.begin() as session:
            await hold(session, lane)

    async with sessions.begin() as session:
        await lock_lane(session, lane.key)
        holding = asyncio.create_task(held())
        await asyncio.sleep(0.2)
        async with sessions.begin() as other:
            await other.execute(text("UPDATE workers SET lease_expires_at = now()"))
    with pytest.raises(LaneLost):
        await holding


async def test_a_worker_may_register_again(sessions: Sessions) -> None:
    worker = new_worker_id()
    for _ in range(2):
        async with sessions.begin() as session:
            await register_worker(session, worker, "test", 60)
    async with sessions.begin() as session:
        await beat(session, worker, 60)
