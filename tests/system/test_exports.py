"""Exports through real processes: PostgreSQL, workers and the sandbox Asana."""

import signal
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.exports.cancel import cancel
from app.exports.models import Export, Phase, Run, Status
from app.exports.requests import GraphRequest, ResourceType
from app.lanes.models import Lane, WaitReason
from app.sandbox.faults import Call, FaultKind
from tests.locks import until_somebody_waits
from tests.processes import until
from tests.stores import folder_of
from tests.system.conftest import BRIEFLY, WORKSPACES, Service
from tests.system.exports import PARENTS, TYPES, assert_verified, graph, posts, replace_its_token, resource


@pytest.mark.parametrize("kind", TYPES)
async def test_each_resource_type_is_exported(service: Service, kind: ResourceType) -> None:
    service.worker()
    (export,) = await service.finished(await service.submit(resource("1001", kind)))
    artifact = await assert_verified(service, export)
    assert set(artifact.by_type) == {kind}


@pytest.mark.parametrize("parent", PARENTS)
async def test_each_kind_of_parent_is_exported(service: Service, parent: str) -> None:
    service.worker()
    (export,) = await service.finished(await service.submit(graph(PARENTS[parent])))
    artifact = await assert_verified(service, export)
    assert artifact.by_type["task"] > 0
    run = await service.run_of(export)
    assert run.data_from is not None
    assert run.data_to is not None


async def test_a_graph_export_does_not_leave_its_workspace(service: Service) -> None:
    """The parent exists and the credential may see it, but it is not where the caller's grant is."""
    service.worker()
    elsewhere = GraphRequest(workspace="1001", parent="10022001")
    unseen = GraphRequest(workspace="1001", parent="99999999")
    for export in await service.finished(await service.submit(elsewhere), await service.submit(unseen)):
        assert export.status is Status.FAILED
        assert export.error is not None
        assert export.error["code"] == "parent-not-in-workspace"
    assert posts(service, Call.GRAPH) == []


async def test_the_timeline_tells_the_story(service: Service) -> None:
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    story = [
        (event.type, event.data.get("phase"), event.data["version"]) for event in await service.events(export)
    ]
    assert story == [
        ("export.created", None, 1),
        ("export.progressed", "submitting", 2),
        ("export.started", "polling", 3),
        ("export.progressed", None, 4),
        ("export.succeeded", None, 5),
    ]


async def test_two_workers_keep_fifty_exports_of_five_workspaces_from_meeting_at_asana(
    service: Service,
) -> None:
    service.worker()
    service.worker()
    exports = [
        await service.submit(resource(gid, TYPES[number % 3])) for number in range(10) for gid in WORKSPACES
    ]
    for export in await service.finished(*exports, within=90):
        await assert_verified(service, export)
    stats = service.sandbox.stats()
    assert {gid: stats.workspaces[gid].max_in_progress for gid in WORKSPACES} == dict.fromkeys(WORKSPACES, 1)
    assert posts(service) == [201] * 50
    assert "403" not in stats.statuses


async def test_sigterm_hands_over_without_a_second_job(service: Service) -> None:
    service.sandbox.patch(run_seconds=(300, 300))
    first = service.worker()
    exports = [await service.submit(resource(gid)) for gid in WORKSPACES]
    for export in exports:
        await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    second = service.worker()
    await second.said("worker.started")
    first.signal(signal.SIGTERM)
    assert await first.ended() == 0
    for export in await service.finished(*exports):
        await assert_verified(service, export)
    assert posts(service) == [201] * len(exports)


async def test_a_slot_held_by_an_outsider_is_waited_for(service: Service) -> None:
    service.sandbox.hold_slot("1001")
    service.worker()
    export = await service.submit(resource())
    waiting = await service.until_run(export, lambda run: run.wait_reason is WaitReason.UPSTREAM_SLOT_BUSY)
    assert waiting.status is Status.QUEUED
    async with service.sessions() as session:
        assert (await session.get_one(Lane, waiting.lane)).wait_reason is WaitReason.UPSTREAM_SLOT_BUSY
    service.sandbox.release_slot("1001")
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    after = await service.run_of(export)
    assert (after.attempt, after.queued_at) == (1, waiting.queued_at)
    assert set(posts(service)[:-1]) == {403}


async def test_a_lost_answer_to_a_graph_export_finds_the_same_job(service: Service) -> None:
    # Asana joins two requests only as long as the job of the first is in flight.
    service.sandbox.patch(run_seconds=(86_400, 86_400))
    service.sandbox.add_fault(Call.GRAPH, FaultKind.DROP_AFTER)
    service.worker()
    export = await service.submit(graph())
    await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    assert posts(service, Call.GRAPH) == [None, 201]
    (job,) = service.sandbox.jobs()
    service.sandbox.end_job(job.gid)
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert "submit_unknown" in [event.data.get("phase") for event in await service.events(export)]


async def test_a_lost_answer_to_a_resource_export_costs_one_job_at_most(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.DROP_AFTER)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, export)
    assert len(service.sandbox.jobs()) == 2
    assert (await service.run_of(export)).attempt == 1


@pytest.mark.parametrize(
    "kind", [FaultKind.BITFLIP, FaultKind.TRUNCATE, FaultKind.TRUNCATE_FILE, FaultKind.WRONG_CONTENT]
)
async def test_a_damaged_file_is_fetched_again(service: Service, kind: FaultKind) -> None:
    service.sandbox.add_fault(Call.FILE, kind)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, export)
    assert posts(service) == [201]
    assert len(service.sandbox.journal(call=Call.FILE)) == 2


async def test_an_expired_address_is_replaced_by_a_fresh_one(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.EXPIRE_URL)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, export)


async def test_a_failed_job_is_tried_again(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.JOB_FAILS, times=2)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, export)
    assert (await service.run_of(export)).attempt == 3


async def test_what_asana_rejects_fails_at_once_with_its_words(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.STATUS, status=400, message="workspace: Missing input")
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    assert export.status is Status.FAILED
    assert export.error is not None
    assert export.error["code"] == "upstream-rejected"
    assert "workspace: Missing input" in export.error["detail"]


async def test_errors_of_asana_while_polling_are_waited_out(service: Service) -> None:
    service.sandbox.add_fault(Call.JOB, FaultKind.STATUS, status=503, times=3)
    service.sandbox.add_fault(Call.JOB, FaultKind.DROP_BEFORE, times=2)
    service.worker()
    (export,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, export)
    assert posts(service) == [201]
    assert len(await service.events(export)) == 5


async def test_a_rate_limit_is_waited_out_without_a_call(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.STATUS, status=429, retry_after=1)
    service.worker()
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.wait_reason is WaitReason.RATE_LIMITED)
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    refused, accepted = service.sandbox.journal(call=Call.RESOURCE)
    assert (accepted.real_time - refused.real_time).total_seconds() >= 1


async def test_a_refusal_of_the_old_token_does_not_stop_the_new_one(service: Service) -> None:
    """The 401 arrives after the token was replaced."""
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.STATUS, status=401, delay=1)
    service.worker(PROBE_MIN_SECONDS="60", PROBE_MAX_SECONDS="60")
    export = await service.submit(resource())
    service.sandbox.add_token("another-token", "another")
    await service.until_run(export, lambda run: run.phase is not None and not service.sandbox.faults())
    await replace_its_token(service, "another-token")
    (export,) = await service.finished(export)
    await assert_verified(service, export)


async def test_a_job_that_ended_while_no_worker_lived_is_not_called_late(service: Service) -> None:
    service.sandbox.patch(run_seconds=(600, 600))
    first = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    run = await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    first.kill()
    assert run.asana_job is not None
    service.sandbox.end_job(run.asana_job)
    async with service.sessions.begin() as session:
        await session.execute(update(Run).values(submitted_at=func.now() - timedelta(hours=25)))
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)


async def test_a_file_that_cannot_be_had_does_not_keep_others_waiting(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.STATUS, status=503, times=None, workspace="1001")
    service.worker(MAX_ARCHIVES="1")
    waiting = await service.submit(resource("1001"))
    await service.until_run(waiting, lambda run: run.status is Status.ARCHIVING)
    (other,) = await service.finished(await service.submit(resource("1002")))
    await assert_verified(service, other)
    async with service.sessions.begin() as session:
        await cancel(session, waiting.id, actor="test", request_id=None)
    asked = len(service.sandbox.journal(call=Call.FILE, workspace="1001"))
    (other,) = await service.finished(await service.submit(resource("1002")))
    assert len(service.sandbox.journal(call=Call.FILE, workspace="1001")) <= asked + 1


async def test_a_fetch_nobody_wants_any_more_is_stopped_at_once(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=30)
    service.worker()
    export = await service.submit(resource())
    await service.until_run(
        export, lambda run: run.status is Status.ARCHIVING and not service.sandbox.faults()
    )
    async with service.sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)

    async def nothing_left() -> bool | None:
        return not any(path.is_file() for path in folder_of(service.settings).rglob("*")) or None

    await until(nothing_left, 10, lambda: "the partial file to be gone")


async def test_a_cancel_while_the_file_is_recorded_leaves_no_file(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=1)
    service.worker()
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.status is Status.ARCHIVING)
    async with service.sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
        # Its worker has the file, and waits for the run that we have changed.
        await until_somebody_waits(service.sessions)
    await service.finished(export)

    async def nothing_left() -> bool | None:
        return not any(path.is_file() for path in folder_of(service.settings).rglob("*")) or None

    await until(nothing_left, 10, lambda: "the file to be gone")


async def test_a_no_to_the_archiver_is_final(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.STATUS, status=503)
    service.worker()
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.status is Status.ARCHIVING)
    service.sandbox.add_fault(Call.JOB, FaultKind.STATUS, status=402, times=None)
    (export,) = await service.finished(export)
    assert export.status is Status.FAILED
    assert export.error is not None
    assert export.error["code"] == "upstream-forbidden"


async def test_archiving_left_by_a_killed_worker_is_taken_over(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=30)
    first = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    await service.until_run(
        export, lambda run: run.status is Status.ARCHIVING and not service.sandbox.faults()
    )
    first.kill()
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert posts(service) == [201]


async def test_the_next_run_starts_while_the_file_of_the_last_is_fetched(service: Service) -> None:
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=3)
    service.worker()
    first, second = await service.submit(resource()), await service.submit(resource())
    await service.until_run(second, lambda run: run.phase is Phase.POLLING)
    assert (await service.run_of(first)).status is Status.ARCHIVING
    for export in await service.finished(first, second):
        await assert_verified(service, export)


async def test_runs_write_no_more_than_their_changes(service: Service) -> None:
    """A look at a job leaves no trace in the database."""
    service.sandbox.patch(run_seconds=(120, 120))
    service.worker(POLL_MAX_SECONDS="0.05")
    (export,) = await service.finished(await service.submit(resource()))
    assert len(service.sandbox.journal(call=Call.JOB)) > 10
    async with service.sessions() as session:
        assert (await session.get_one(Export, export.id)).version == 5
        assert await session.scalar(select(func.count()).select_from(Run)) == 1
