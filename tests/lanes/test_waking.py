"""Work that comes is found, and does not hurry what has to wait."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.log import Cause
from app.exports.cancel import cancel
from app.exports.forbidden import slot_refused
from app.exports.runs import next_run, put_back, try_again_later
from app.ids import LaneKey
from app.lanes.control import drain, pause, resume
from app.lanes.models import WaitReason
from app.problems import Code, ProblemError
from tests.builders import Tenant, an_export
from tests.lanes.stage import a_worker, claimed, ended, queued, started
from tests.locks import until_it_waits, until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]


async def test_new_work_does_not_hurry_a_lane_whose_slot_is_taken(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await put_back(session, lane, run.id, WaitReason.RATE_LIMITED, 60)
    await started(sessions, lane)
    await queued(sessions, tenant)
    assert await claimed(sessions, worker) == []


async def test_new_work_does_not_wait_for_the_backoff_of_another_run(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await try_again_later(session, lane, run.id, 60)
    assert await started(sessions, lane) is None
    assert await claimed(sessions, worker) == []
    fresh = await queued(sessions, tenant)
    (again,) = await claimed(sessions, worker)
    head = await started(sessions, again)
    assert head is not None
    assert head.id == fresh.run


async def test_enqueue_races_release_without_ever_losing_work(sessions: Sessions, tenant: Tenant) -> None:
    """Whatever the interleaving, a lane with a queued run is flagged or held by somebody who will see it."""
    worker = await a_worker(sessions, lease=600)

    async def serve_all() -> None:
        for lane in await claimed(sessions, worker):
            while run := await started(sessions, lane):
                await ended(sessions, run)

    for _ in range(150):
        await queued(sessions, tenant)
        await asyncio.gather(serve_all(), queued(sessions, tenant), serve_all())
        await serve_all()
        async with sessions() as session:
            left = await session.scalar(text("SELECT count(*) FROM runs WHERE status = 'queued'"))
        assert left == 0


async def test_work_that_comes_while_its_lane_is_given_back_is_not_lost(
    sessions: Sessions, tenant: Tenant
) -> None:
    first = await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        await cancel(session, first.id, actor="test", request_id=None)
    async with sessions.begin() as session:
        assert await next_run(session, lane, credential_wait=60) is None
        asking = asyncio.create_task(queued(sessions, tenant))
        await until_it_waits(sessions, asking)
    await asking
    assert len(await claimed(sessions, worker)) == 1


async def test_a_lane_is_not_given_back_while_work_comes(sessions: Sessions, tenant: Tenant) -> None:
    first = await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    async with sessions.begin() as session:
        await cancel(session, first.id, actor="test", request_id=None)
    async with sessions.begin() as session:
        await an_export(session, tenant)
        looking = asyncio.create_task(started(sessions, lane))
        await until_it_waits(sessions, looking)
    assert await looking or await claimed(sessions, worker)


async def test_a_reason_of_the_past_does_not_keep_new_work_waiting(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    blocked = await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    first = await started(sessions, lane)
    assert first is not None
    async with sessions.begin() as session:
        await try_again_later(session, lane, first.id, 600)
    second = await started(sessions, lane)
    assert second is not None
    async with sessions.begin() as session:
        await slot_refused(session, lane, second.id, lambda _: 0)
    async with sessions.begin() as session:
        await cancel(session, blocked.id, actor="test", request_id=None)
    assert await started(sessions, lane) is None
    assert await claimed(sessions, worker) == []
    await queued(sessions, tenant)
    assert len(await claimed(sessions, worker)) == 1


async def test_what_was_queued_during_a_pause_goes_on_after_it(sessions: Sessions, tenant: Tenant) -> None:
    worker, key = await a_worker(sessions), LaneKey(tenant.workspace)
    async with sessions.begin() as session:
        await pause(session, key, tenant.workspace, Cause("test"))
    await queued(sessions, tenant)
    assert await claimed(sessions, worker) == []
    async with sessions.begin() as session:
        await resume(session, key, tenant.workspace, Cause("test"))
    assert len(await claimed(sessions, worker)) == 1


async def test_a_request_that_meets_a_drain_at_the_door_is_refused(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    async with sessions.begin() as session:
        await drain(session, LaneKey(tenant.workspace), tenant.workspace, Cause("test"))
        asking = asyncio.create_task(queued(sessions, tenant))
        await until_somebody_waits(sessions)
    with pytest.raises(ProblemError) as refused:
        await asking
    assert refused.value.problem.code is Code.LANE_DRAINING
