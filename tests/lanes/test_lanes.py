"""The engine's rules, one by one, on real PostgreSQL."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Credential, CredentialState, Priority, Workspace
from app.access.vault import Vault
from app.events.log import Cause, Event, EventType
from app.exports.accept import Rules, Submission, accept
from app.exports.cancel import cancel
from app.exports.forbidden import slot_refused
from app.exports.models import Export, Phase, Run, Status
from app.exports.requests import ResourceRequest
from app.exports.runs import (
    HeldArchive,
    about_to_submit,
    archive_waits,
    archived,
    claim_archives,
    disown_archives,
    fail_run,
    free_slot,
    hold_archive,
    next_run,
    put_back,
    submitted,
    survived,
    try_again_later,
)
from app.exports.states import change, locked_run
from app.ids import CredentialId, LaneKey, WorkerId, new_worker_id
from app.lanes.claim import HeldLane, claim_lane, claim_lanes, overdue_lanes, rescue_lanes
from app.lanes.control import drain, pause, resume
from app.lanes.enqueue import lock_lane
from app.lanes.lease import LaneLost, LeaseLost, beat, hold, register_worker
from app.lanes.models import Lane, LaneWait, WaitReason
from app.lanes.release import disown, hand_over
from app.problems import Code, Problem, ProblemError
from tests.builders import Tenant, a_tenant, an_artifact, an_export
from tests.locks import until_it_waits, until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]
TEAMS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "team"}]}


async def a_worker(sessions: Sessions, lease: float = 60) -> WorkerId:
    worker = new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", lease)
    return worker


async def claimed(sessions: Sessions, worker: WorkerId, most: int = 100) -> list[HeldLane]:
    async with sessions.begin() as session:
        return await claim_lanes(session, worker, most)


async def started(sessions: Sessions, lane: HeldLane) -> Run | None:
    async with sessions.begin() as session:
        return await next_run(session, lane, credential_wait=60)


async def ended(sessions: Sessions, run: Run) -> None:
    async with sessions.begin() as session:
        await change(session, await locked_run(session, run.id), Status.FAILED, actor="test")


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


async def queued(sessions: Sessions, tenant: Tenant, priority: Priority = Priority.NORMAL) -> Export:
    async with sessions.begin() as session:
        return await an_export(session, tenant, priority=priority)


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


async def test_the_database_itself_refuses_a_second_live_run_in_a_lane(
    sessions: Sessions, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    await queued(sessions, tenant)
    with pytest.raises(IntegrityError, match="runs_one_live_per_lane_idx"):
        async with sessions.begin() as session:
            await session.execute(text("UPDATE runs SET status = 'running', phase = 'polling'"))


async def test_the_more_urgent_goes_first_and_equals_in_order_of_arrival(
    sessions: Sessions, tenant: Tenant
) -> None:
    low = await queued(sessions, tenant, Priority.LOW)
    first = await queued(sessions, tenant)
    second = await queued(sessions, tenant)
    urgent = await queued(sessions, tenant, Priority.URGENT)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    order = []
    for _ in range(4):
        run = await started(sessions, lane)
        assert run is not None
        order.append(run.id)
        await ended(sessions, run)
    assert order == [export.run for export in (urgent, first, second, low)]


async def test_the_run_in_flight_is_resumed_before_the_next_is_begun(
    sessions: Sessions, tenant: Tenant
) -> None:
    first = await queued(sessions, tenant)
    await queued(sessions, tenant, Priority.URGENT)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await submitted(session, lane, run.id, "4711", None)
    async with sessions.begin() as session:
        await hand_over(session, worker)
    (again,) = await claimed(sessions, await a_worker(sessions))
    resumed = await started(sessions, again)
    assert resumed is not None
    assert (resumed.id, resumed.asana_job, resumed.phase) == (run.id, "4711", Phase.POLLING)
    assert again.fence > lane.fence
    assert first.id


async def test_a_resumed_run_without_a_job_is_of_unknown_outcome(sessions: Sessions, tenant: Tenant) -> None:
    await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    await started(sessions, lane)
    async with sessions.begin() as session:
        await hand_over(session, worker)
    (again,) = await claimed(sessions, await a_worker(sessions))
    resumed = await started(sessions, again)
    assert resumed is not None
    assert (resumed.status, resumed.phase) == (Status.RUNNING, Phase.SUBMIT_UNKNOWN)


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


async def test_success_is_told_once_though_its_answer_was_lost(sessions: Sessions, tenant: Tenant) -> None:
    export = await queued(sessions, tenant)
    archive = await archiving(sessions, export)
    for _ in range(2):
        async with sessions.begin() as session:
            await archived(session, archive, an_artifact(archive), [])
    async with sessions() as session:
        seen = await session.get_one(Export, export.id)
        told = select(Event).where(Event.export == export.id, Event.type == EventType.EXPORT_SUCCEEDED)
        assert seen.status is Status.SUCCEEDED
        assert len(list(await session.scalars(told))) == 1


async def test_what_was_taken_over_is_not_archived_twice(sessions: Sessions, tenant: Tenant) -> None:
    first = await archiving(sessions, await queued(sessions, tenant))
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        assert await claim_archives(session, other, 10, suspect=True) == []
        await disown_archives(session, first.worker, [])
        (second,) = await claim_archives(session, other, 10, suspect=False)
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await archived(session, first, an_artifact(first), [])
    async with sessions.begin() as session:
        await archived(session, second, an_artifact(second), [])


async def lost_with_its_worker(sessions: Sessions, archive: HeldArchive) -> HeldArchive:
    """Its lease is over, and another one has the file."""
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE workers SET lease_expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": archive.worker},
        )
        assert await claim_archives(session, other, 10, suspect=False) == []
        (taken,) = await claim_archives(session, other, 10, suspect=True)
    return taken


async def test_workers_that_vanish_with_a_file_are_counted_but_for_those_that_come_back(
    sessions: Sessions, tenant: Tenant
) -> None:
    first = await archiving(sessions, await queued(sessions, tenant))
    second = await lost_with_its_worker(sessions, first)
    third = await lost_with_its_worker(sessions, second)
    assert (first.lost, second.lost, third.lost) == (0, 1, 2)
    async with sessions.begin() as session:
        await survived(session, first.worker)
    assert (await lost_with_its_worker(sessions, third)).lost == 2


async def test_one_that_comes_back_before_its_file_is_taken_leaves_no_suspicion(
    sessions: Sessions, tenant: Tenant
) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        await survived(session, archive.worker)
        (taken,) = await claim_archives(session, other, 10, suspect=False)
    assert taken.lost == 0


async def test_a_try_that_ends_in_order_takes_the_suspicion_away(sessions: Sessions, tenant: Tenant) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))
    for _ in range(4):
        archive = await lost_with_its_worker(sessions, archive)
        assert archive.lost == 1
        async with sessions.begin() as session:
            await archive_waits(session, archive, WaitReason.BACKOFF)


async def test_a_success_whose_commit_is_under_way_is_not_taken_for_refused(
    sessions: Sessions, tenant: Tenant
) -> None:
    """The connection was lost, and the worker does it again while the server still works on the first try."""
    archive = await archiving(sessions, await queued(sessions, tenant))

    async def again() -> None:
        async with sessions.begin() as session:
            await archived(session, archive, an_artifact(archive), [])

    async with sessions.begin() as session:
        await archived(session, archive, an_artifact(archive), [])
        repeating = asyncio.create_task(again())
        await until_somebody_waits(sessions)
    await repeating


async def test_a_file_that_was_given_away_is_lost_even_to_the_same_worker(
    sessions: Sessions, tenant: Tenant
) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))

    async def is_lost() -> bool:
        try:
            async with sessions.begin() as session:
                await hold_archive(session, archive)
        except LaneLost:
            return True
        return False

    assert not await is_lost()
    async with sessions.begin() as session:
        await disown_archives(session, archive.worker, [])
    assert await is_lost()
    async with sessions.begin() as session:
        (again,) = await claim_archives(session, archive.worker, 1, suspect=False)
        await hold_archive(session, again)
    assert await is_lost()


async def test_a_file_lost_with_its_worker_is_claimed_apart_from_others(
    sessions: Sessions, tenant: Tenant
) -> None:
    lost = await archiving(sessions, await queued(sessions, tenant))
    async with sessions.begin() as session:
        await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
        await rescue_lanes(session)
    sound = await archiving(sessions, await queued(sessions, tenant))
    worker = await a_worker(sessions)
    async with sessions.begin() as session:
        await disown_archives(session, sound.worker, [])
        for suspect, archive in ((False, sound), (True, lost)):
            claims = await claim_archives(session, worker, 10, suspect=suspect)
            assert [claim.run for claim in claims] == [archive.run]


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


async def test_steps_bear_being_repeated(sessions: Sessions, tenant: Tenant) -> None:
    """The commit worked, its answer was lost, and the worker does it again."""
    exports = [await queued(sessions, tenant) for _ in range(4)]
    (lane,) = await claimed(sessions, await a_worker(sessions))
    steps: list[Callable[[AsyncSession, Run], Awaitable[object]]] = [
        lambda session, run: free_slot(
            session, lane, run.id, data_from=None, data_to=None, warnings=[{"code": "x"}], archive_here=True
        ),
        lambda session, run: fail_run(session, lane, run.id, Problem(Code.UPSTREAM_FAILED, "no reason")),
        lambda session, run: try_again_later(session, lane, run.id, 600),
        lambda session, run: put_back(session, lane, run.id, WaitReason.RATE_LIMITED, 600),
    ]
    for export, step in zip(exports, steps, strict=True):
        run = await started(sessions, lane)
        assert run is not None
        assert run.id == export.run
        seen = []
        for _ in range(2):
            async with sessions.begin() as session:
                await step(session, run)
            async with sessions() as session:
                after = await session.get_one(Run, run.id)
                version = (await session.get_one(Export, export.id)).version
            seen.append(
                (version, after.status, after.finished_at, after.attempt, after.warnings, after.archive_fence)
            )
        assert seen[0] == seen[1]


async def test_a_worker_may_register_again(sessions: Sessions) -> None:
    worker = new_worker_id()
    for _ in range(2):
        async with sessions.begin() as session:
            await register_worker(session, worker, "test", 60)
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


async def claimed_alone(sessions: Sessions, worker: WorkerId, key: LaneKey) -> HeldLane | None:
    async with sessions.begin() as session:
        return await claim_lane(session, worker, key)


async def test_a_canceled_run_without_a_job_is_not_started(sessions: Sessions, tenant: Tenant) -> None:
    export, following = await queued(sessions, tenant), await queued(sessions, tenant)
    worker = await a_worker(sessions)
    (lane,) = await claimed(sessions, worker)
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
    async with sessions.begin() as session:
        assert not await about_to_submit(session, lane, run.id, Phase.SUBMITTING)
    async with sessions() as session:
        assert (await session.get_one(Export, export.id)).status is Status.CANCELED
    behind = await started(sessions, lane)
    assert behind is not None
    assert behind.id == following.run


async def test_a_run_with_an_invalid_token_does_not_hold_up_others(
    sessions: Sessions, vault: Vault, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    async with sessions.begin() as session:
        other = await a_tenant(session, vault, "1002")
        workspace = await session.get_one(Workspace, tenant.workspace)
        workspace.credential = CredentialId(other.credential)
        (await session.get_one(Credential, tenant.credential)).state = CredentialState.INVALID
    (lane,) = await claimed(sessions, await a_worker(sessions))
    assert await started(sessions, lane) is None
    async with sessions() as session:
        waiting = await session.get_one(Lane, lane.key)
        assert waiting.wait_reason is WaitReason.CREDENTIAL_INVALID
    good = await queued(sessions, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    run = await started(sessions, lane)
    assert run is not None
    assert run.id == good.run


async def test_a_lane_waits_for_a_token_no_longer_than_until_another_run_may_be_tried_again(
    sessions: Sessions, vault: Vault, tenant: Tenant
) -> None:
    await queued(sessions, tenant)
    async with sessions.begin() as session:
        (await session.get_one(Credential, tenant.credential)).state = CredentialState.INVALID
    good = await by_another_credential(sessions, vault, tenant)
    (lane,) = await claimed(sessions, await a_worker(sessions))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        await try_again_later(session, lane, run.id, 10)
    assert await started(sessions, lane) is None
    async with sessions() as session:
        waiting = await session.get_one(Lane, lane.key)
        assert waiting.wait_reason is WaitReason.CREDENTIAL_INVALID
        again = await session.get_one(Run, good.run)
        assert waiting.next_attempt_at - again.not_before < timedelta(seconds=25)


async def refused_thrice(sessions: Sessions, lane: HeldLane) -> Run | None:
    """The lane's head has been refused twice, and now once more; returns what is tried instead."""
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET probes = 2, wait_reason = 'upstream_slot_busy'"))
    run = await started(sessions, lane)
    assert run is not None
    async with sessions.begin() as session:
        return await slot_refused(session, lane, run.id, lambda _: 60)


async def by_another_credential(sessions: Sessions, vault: Vault, tenant: Tenant) -> Export:
    async with sessions.begin() as session:
        other = await a_tenant(session, vault, "1002")
        workspace = await session.get_one(Workspace, tenant.workspace)
        workspace.credential = CredentialId(other.credential)
    return await queued(sessions, tenant)


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


async def test_what_was_queued_during_a_pause_goes_on_after_it(sessions: Sessions, tenant: Tenant) -> None:
    worker, key = await a_worker(sessions), LaneKey(tenant.workspace)
    async with sessions.begin() as session:
        await pause(session, key, tenant.workspace, Cause("test"))
    await queued(sessions, tenant)
    assert await claimed(sessions, worker) == []
    async with sessions.begin() as session:
        await resume(session, key, tenant.workspace, Cause("test"))
    assert len(await claimed(sessions, worker)) == 1


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


async def test_a_run_that_a_thousand_share_goes_on_and_takes_no_more(
    sessions: Sessions, tenant: Tenant
) -> None:
    async with sessions.begin() as session:
        wanted = Submission(ResourceRequest.model_validate(TEAMS))
        first = await accept(session, tenant.client, wanted, Rules())
        copies = text(
            "INSERT INTO exports (id, client, run, kind, workspace, lane, status, priority, request) "
            "SELECT 'exp_' || number, client, run, kind, workspace, lane, status, priority, request "
            "FROM exports, generate_series(2, 1000) AS number WHERE id = :id"
        )
        await session.execute(copies, {"id": first.id})
    async with sessions.begin() as session:
        following = await accept(session, tenant.client, wanted, Rules())
        assert following.run != first.run
        assert (await accept(session, tenant.client, wanted, Rules())).run == following.run
    (lane,) = await claimed(sessions, await a_worker(sessions))
    run = await started(sessions, lane)
    assert run is not None
    assert run.id == first.run
    async with sessions() as session:
        told = select(func.count()).select_from(Event).where(Event.type == EventType.EXPORT_PROGRESSED)
        assert await session.scalar(told) == 1000


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
