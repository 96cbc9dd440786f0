"""One run after the other in a lane, in their order."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Credential, CredentialState, Priority, Workspace
from app.access.vault import Vault
from app.events.log import Event, EventType
from app.exports.accept import Rules, Submission, accept
from app.exports.cancel import cancel
from app.exports.models import Export, Phase, Run, Status
from app.exports.requests import ResourceRequest
from app.exports.runs import (
    about_to_submit,
    archived,
    fail_run,
    free_slot,
    put_back,
    submitted,
    try_again_later,
)
from app.ids import CredentialId
from app.lanes.models import Lane, WaitReason
from app.lanes.release import hand_over
from app.problems import Code, Problem
from tests.builders import Tenant, a_tenant, an_artifact
from tests.lanes.stage import a_worker, archiving, by_another_credential, claimed, ended, queued, started

Sessions = async_sessionmaker[AsyncSession]
TEAMS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "team"}]}


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
