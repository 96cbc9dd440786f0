"""What Asana may do: refuse, limit, fail, forget, and let others in."""

import asyncio
from itertools import pairwise

from sqlalchemy import select, update

from app.access.models import Workspace
from app.access.vault import open_vault
from app.events.log import Event, EventType
from app.exports.cancel import cancel
from app.exports.models import Export, Phase, Status
from app.exports.reading import ExportFilter, export_views
from app.exports.states import FINAL
from app.lanes.models import WaitReason
from app.problems import ProblemError
from app.sandbox.faults import Call, FaultKind
from app.sandbox.journal import JournalEntry
from tests.builders import another_credential
from tests.processes import until
from tests.stores import folder_of
from tests.system.conftest import WORKSPACES, Service
from tests.system.exports import assert_verified, posts, replace_its_token, resource


async def with_a_token_of_its_own(service: Service, workspace: str, token: str) -> None:
    service.sandbox.add_token(token, token)
    async with service.sessions.begin() as session:
        credential = await another_credential(session, open_vault(service.settings), token)
        await session.execute(
            update(Workspace).where(Workspace.gid == workspace).values(credential=credential.id)
        )


async def lane_events(service: Service, kind: EventType) -> list[Event]:
    async with service.sessions() as session:
        return list(await session.scalars(select(Event).where(Event.type == kind)))


def seconds_between(entries: list[JournalEntry]) -> list[float]:
    return [(after.real_time - before.real_time).total_seconds() for before, after in pairwise(entries)]


async def test_11_somebody_outside_holds_the_slot_for_long(service: Service) -> None:
    """Hours are seconds here: told as blocked after one, probed at most once in one."""
    service.sandbox.hold_slot("1001")
    service.worker(BLOCKED_SECONDS="1", PROBE_MIN_SECONDS="0.25", PROBE_MAX_SECONDS="2")
    export = await service.submit(resource())
    waiting = await service.until_run(export, lambda run: run.wait_reason is WaitReason.UPSTREAM_SLOT_BUSY)

    async def told() -> list[Event] | None:
        return await lane_events(service, EventType.LANE_BLOCKED) or None

    (blocked,) = await until(told, 30, lambda: "lane.blocked")
    assert blocked.lane == "1001"
    await until(lambda: _probes(service, 5), 30, lambda: "five probes")
    service.sandbox.release_slot("1001")
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    run = await service.run_of(export)
    assert (run.attempt, run.queued_at) == (1, waiting.queued_at)
    pauses = seconds_between(service.sandbox.journal(call=Call.RESOURCE))
    # It doubles, but for the jitter, up to the longest.
    assert pauses[-1] > pauses[0]
    assert min(pauses[3:]) > 0.9

    async def told_of_the_end() -> list[Event] | None:
        return await lane_events(service, EventType.LANE_UNBLOCKED) or None

    assert len(await until(told_of_the_end, 30, lambda: "lane.unblocked")) == 1


async def _probes(service: Service, most: int) -> bool | None:
    return len(posts(service)) >= most or None


async def test_12_an_outsider_takes_the_slot_between_two_of_ours(service: Service) -> None:
    service.sandbox.patch(run_seconds=(120, 120))
    service.worker()
    first = await service.submit(resource())
    await service.until_run(first, lambda run: run.phase is Phase.POLLING)
    second, third = await service.submit(resource()), await service.submit(resource())
    before = await service.run_of(second)
    service.sandbox.hold_slot("1001")
    waiting = await service.until_run(second, lambda run: run.wait_reason is WaitReason.UPSTREAM_SLOT_BUSY)
    assert waiting.status is Status.QUEUED
    assert (waiting.queued_at, waiting.turn, waiting.attempt) == (before.queued_at, before.turn, 1)
    service.sandbox.patch(run_seconds=(20, 20))
    service.sandbox.release_slot("1001")
    ended = await service.finished(first, second, third)
    for export in ended:
        await assert_verified(service, export)
    ends = [export.finished_at for export in ended if export.finished_at]
    assert ends == sorted(ends)


async def test_13_a_rate_limit_on_poll_and_submit(service: Service) -> None:
    """Nothing is asked with the limited token meanwhile; another one is not affected."""
    await with_a_token_of_its_own(service, "1002", "another")
    service.sandbox.patch(run_seconds=(300, 300))
    service.worker()
    polled = await service.submit(resource("1001"))
    other = await service.submit(resource("1002"))
    for export in (polled, other):
        await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    service.sandbox.add_fault(Call.JOB, FaultKind.STATUS, status=429, retry_after=3, workspace="1001")
    await until(lambda: _used_up(service), 20, lambda: "the limit to be met")
    submitted = await service.submit(resource("1003"))
    waiting = await service.until_run(submitted, lambda run: run.wait_reason is WaitReason.RATE_LIMITED)
    assert waiting.status is Status.QUEUED
    for export in await service.finished(polled, submitted, other):
        await assert_verified(service, export)
    asked = service.sandbox.journal()
    (limited,) = [entry for entry in asked if entry.status == 429]
    after = [entry for entry in asked if entry.real_time > limited.real_time]
    (own, others) = ([e for e in after if (e.token == "service") is mine] for mine in (True, False))
    own = [entry for entry in own if entry.call is not Call.FILE]
    assert (own[0].real_time - limited.real_time).total_seconds() >= 3
    assert (others[0].real_time - limited.real_time).total_seconds() < 3


async def _used_up(service: Service) -> bool | None:
    return not service.sandbox.faults() or None


async def test_14_asana_is_ill_while_a_job_is_followed(service: Service) -> None:
    service.sandbox.patch(run_seconds=(60, 60))
    worker = service.worker(BACKOFF_MIN_SECONDS="0.05", BACKOFF_MAX_SECONDS="0.4")
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    before = len(service.sandbox.journal(call=Call.JOB))
    for status in (500, 502, 504):
        service.sandbox.add_fault(Call.JOB, FaultKind.STATUS, status=status, times=4)
    await until(lambda: _used_up(service), 60, lambda: worker.output())
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert posts(service) == [201]
    assert len(await service.events(export)) == 5
    pauses = seconds_between(service.sandbox.journal(call=Call.JOB)[before : before + 12])
    # They grow; and no two are alike, or many workers would come back at once.
    assert max(pauses) > 2 * min(pauses)
    assert len(set(pauses)) == len(pauses)


async def test_15_asana_fails_a_job_without_a_reason(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.JOB_FAILS, times=3)
    service.worker(MAX_ATTEMPTS="3", BACKOFF_MIN_SECONDS="0.01", BACKOFF_MAX_SECONDS="0.01")
    (failing,) = await service.finished(await service.submit(resource()))
    assert failing.status is Status.FAILED
    assert failing.error is not None
    assert failing.error["code"] == "upstream-failed"
    (following,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, following)
    assert posts(service) == [201] * 4


async def test_15_while_one_waits_for_its_next_attempt_the_lane_moves_on(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.JOB_FAILS)
    service.worker(BACKOFF_MIN_SECONDS="600", BACKOFF_MAX_SECONDS="600")
    failing = await service.submit(resource())
    await service.until_run(failing, lambda run: run.wait_reason is WaitReason.BACKOFF)
    (following,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, following)


async def test_16_a_token_is_revoked_and_replaced(service: Service) -> None:
    await with_a_token_of_its_own(service, "1002", "another")
    service.sandbox.patch(run_seconds=(120, 120))
    service.worker(PROBE_MAX_SECONDS="60", BACKOFF_MIN_SECONDS="60", BACKOFF_MAX_SECONDS="60")
    export = await service.submit(resource())
    job = (await service.until_run(export, lambda run: run.phase is Phase.POLLING)).asana_job
    service.sandbox.revoke_token("service")
    waiting = await service.until_run(export, lambda run: run.wait_reason is WaitReason.CREDENTIAL_INVALID)
    assert waiting.status is Status.RUNNING
    queued = await service.submit(resource("1003"))
    (other,) = await service.finished(await service.submit(resource("1002")))
    await assert_verified(service, other)
    service.sandbox.add_token("renewed", "service")
    await replace_its_token(service, "renewed")
    for ended in await service.finished(export, queued):
        await assert_verified(service, ended)
    assert (await service.run_of(export)).asana_job == job
    assert [entry.status for entry in service.sandbox.journal(call=Call.RESOURCE, workspace="1001")] == [201]


async def test_21_cancel_races_success(service: Service) -> None:
    service.sandbox.patch(run_seconds=(1, 4), start_seconds=(0, 0))
    service.worker(IDLE_POLL_SECONDS="0.05", POLL_MIN_SECONDS="0.01")
    exports = [await service.submit(resource(gid)) for gid in WORKSPACES for _ in range(8)]

    async def cancel_at_its_end(number: int, export: Export) -> None:
        await service.until_run(export, lambda run: run.asana_job is not None, within=60)
        await asyncio.sleep(number % 8 * 0.02)
        try:
            async with service.sessions.begin() as session:
                await cancel(session, export.id, actor="test", request_id=None)
        except ProblemError:
            return  # it has ended before

    await asyncio.gather(*(cancel_at_its_end(*each) for each in enumerate(exports)))
    ended = await service.finished(*exports, within=60)
    outcomes = {export.status for export in ended}
    assert outcomes <= {Status.SUCCEEDED, Status.CANCELED}
    for export in ended:
        ends = [event for event in await service.events(export) if event.data["status"] in FINAL]
        assert len(ends) == 1
    async with service.sessions() as session:
        views = await export_views(
            session, service.tenants["1001"].client, ExportFilter(), before=None, most=100
        )
    kept = {view.artifact.key for view in views if view.artifact}
    assert len(kept) == sum(export.status is Status.SUCCEEDED for export in ended)

    async def only_those() -> bool | None:
        files = folder_of(service.settings)
        found = {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()}
        return found == kept or None

    await until(only_those, 20, lambda: "only the files of those that succeeded")
