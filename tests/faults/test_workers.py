"""What may happen to workers: killed, stopped, replaced, with a wrong clock."""

import asyncio
import signal
from collections import Counter
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import func, select, update

from app.clock import SystemClock
from app.database.session import open_database
from app.events.log import EventType
from app.exports.models import Export, Phase, Run, Status
from app.lanes.models import Lane
from app.sandbox.faults import Call, FaultKind
from app.worker.process import run_worker
from tests.builders import another_workspace
from tests.locks import until_somebody_waits
from tests.processes import until
from tests.system.conftest import BRIEFLY, WORKSPACES, Service
from tests.system.exports import assert_verified, graph, posts, resource


async def terminal_events(service: Service, export: Export) -> list[str]:
    ends = {EventType.EXPORT_SUCCEEDED, EventType.EXPORT_FAILED, EventType.EXPORT_CANCELED}
    return [event.type for event in await service.events(export) if event.type in ends]


async def test_01_worker_killed_while_polling(service: Service) -> None:
    service.sandbox.patch(run_seconds=(600, 600))
    first = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    job = (await service.until_run(export, lambda run: run.phase is Phase.POLLING)).asana_job
    first.kill()
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert (await service.run_of(export)).asana_job == job
    assert posts(service) == [201]
    assert await terminal_events(service, export) == ["export.succeeded"]


async def test_02_killed_between_the_intent_and_the_call(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.DROP_BEFORE, delay=5)
    first = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.phase is not None and not service.sandbox.faults())
    first.kill()
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert len(service.sandbox.jobs()) == 1
    phases = [event.data.get("phase") for event in await service.events(export)]
    assert phases == [None, "submitting", "submit_unknown", "polling", None, None]


@pytest.mark.parametrize(("call", "then", "jobs"), [(Call.GRAPH, 201, 1), (Call.RESOURCE, 403, 2)])
async def test_03_killed_after_the_answer_before_the_job_is_saved(
    service: Service, call: Call, then: int, jobs: int
) -> None:
    """A graph's job is found again; for a resource export the lost one is waited out."""
    service.sandbox.patch(run_seconds=(86400, 86400))
    first = service.worker(**BRIEFLY)
    service.sandbox.add_fault(call, FaultKind.DELAY, delay=2)
    export = await service.submit(graph() if call is Call.GRAPH else resource())
    await service.until_run(export, lambda run: run.phase is not None and not service.sandbox.faults())
    async with service.sessions.begin() as session:
        await session.execute(select(Lane).where(Lane.key == "1001").with_for_update())
        await until(lambda: _asked(service, call, 1), 20, lambda: "the call to be answered")
        await until_somebody_waits(service.sessions)
        assert posts(service, call) == [201]
        first.kill()
    service.sandbox.patch(run_seconds=(20, 20))
    service.worker()
    await until(lambda: _asked(service, call, 2), 30, lambda: "the call to be made again")
    assert posts(service, call)[1] == then
    (job,) = service.sandbox.jobs()
    service.sandbox.end_job(job.gid)
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert len(service.sandbox.jobs()) == jobs
    assert (await service.run_of(export)).attempt == 1
    assert await terminal_events(service, export) == ["export.succeeded"]


async def _asked(service: Service, call: Call, times: int) -> bool | None:
    return len(posts(service, call)) >= times or None


async def test_04_a_worker_that_wakes_after_its_lease_changes_nothing(service: Service) -> None:
    service.sandbox.add_fault(Call.JOB, FaultKind.DELAY, delay=1)
    zombie = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.phase is Phase.POLLING and not service.sandbox.faults())
    zombie.signal(signal.SIGSTOP)
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    before = await service.run_of(export), await service.events(export)
    zombie.signal(signal.SIGCONT)
    await zombie.said("worker.lease_lost")
    # It goes on under a new name, with nothing of what it knew.
    await until(lambda: _starts(zombie.output(), 2), 20, lambda: zombie.output())
    (following,) = await service.finished(await service.submit(resource()))
    await assert_verified(service, following)
    after = await service.run_of(export), await service.events(export)
    assert [event.id for event in after[1]] == [event.id for event in before[1]]
    assert after[0].finished_at == before[0].finished_at
    assert posts(service) == [201, 201]


async def test_04_a_write_that_comes_too_late_is_refused(service: Service) -> None:
    """It was on its way when the worker was stopped: the fence alone stands in its way."""
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.DELAY, delay=1)
    zombie = service.worker()
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.phase is not None and not service.sandbox.faults())
    async with service.sessions.begin() as session:
        await session.execute(select(Lane).where(Lane.key == "1001").with_for_update())
        await until_somebody_waits(service.sessions)
        zombie.signal(signal.SIGSTOP)
        # Somebody else has the lane by now.
        await session.execute(update(Lane).values(holder=None, fence=Lane.fence + 1))
    zombie.signal(signal.SIGCONT)
    await zombie.said("lane.lost")
    (export,) = await service.finished(export)
    await assert_verified(service, export)
    assert await terminal_events(service, export) == ["export.succeeded"]


async def _starts(output: str, times: int) -> bool | None:
    return output.count("worker.started") >= times or None


async def test_05_a_rolling_deploy_of_a_hundred_lanes(service: Service) -> None:
    """The lease is so long that lanes which are not handed over would stand still."""
    gids = [str(gid) for gid in range(2001, 2101)]
    service.sandbox.patch(concurrent_jobs=None, requests_per_minute=None, run_seconds=(600, 600))
    async with service.sessions.begin() as session:
        for gid in gids:
            service.sandbox.put_workspace(gid, tasks=5)
            service.tenants[gid] = await another_workspace(session, service.tenants["1001"], gid)
    lasting = {"LEASE_SECONDS": "600", "BEAT_SECONDS": "5"}
    workers = [service.worker(**lasting), service.worker(**lasting)]
    exports = [await service.submit(resource(gid)) for gid in gids]
    for export in exports:
        await service.until_run(export, lambda run: run.asana_job is not None, within=60)
    for old in workers:
        await service.worker(**lasting).said("worker.started")
        old.signal(signal.SIGTERM)
        assert await old.ended(30) == 0
    for export in await service.finished(*exports, within=60):
        await assert_verified(service, export)
    assert Counter(posts(service)) == {201: 100}


async def test_08_work_that_comes_while_a_lane_is_given_back(service: Service) -> None:
    """Each export comes about when the lane of the last one is released; none stays behind.

    Nothing but the hand-shake of enqueue and release finds it: the worker does not look on its own.
    """
    service.sandbox.patch(run_seconds=(0, 1), start_seconds=(0, 0))
    service.worker(IDLE_POLL_SECONDS="600")
    for number in range(40):
        export = await service.submit(resource())
        await service.until_run(export, lambda run: run.status is not Status.QUEUED)
        await asyncio.sleep(number % 20 * 0.002)
        following = await service.submit(resource())
        await service.finished(export, following)


async def test_23_a_worker_whose_clock_is_wrong(service: Service) -> None:
    """Leases are counted by the database's clock: neither takes lanes from the other, nor loses its own."""

    class AheadClock(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(minutes=10)

    service.sandbox.patch(run_seconds=(300, 300))
    hasty = service.settings.model_copy(
        update={
            "poll_min_seconds": 0.05,
            "poll_max_seconds": 0.3,
            "idle_poll_seconds": 0.3,
            "download_hosts": ("127.0.0.1",),
            "download_allow_http": True,
        }
    )
    stop = asyncio.Event()
    async with open_database(hasty) as database:
        ahead = asyncio.create_task(run_worker(hasty, database, stop, AheadClock()))
        right = service.worker()
        await right.said("worker.started")
        exports = [await service.submit(resource(gid)) for gid in WORKSPACES]
        for export in await service.finished(*exports):
            await assert_verified(service, export)
            assert export.finished_at is not None
            assert export.created_at < export.finished_at < datetime.now(export.created_at.tzinfo)
        stop.set()
        await ahead
    assert posts(service) == [201] * len(exports)
    assert "lease_lost" not in right.output()
    async with service.sessions() as session:
        assert await session.scalar(select(func.max(Lane.fence))) == 1


async def test_25_a_job_that_never_ends(service: Service) -> None:
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.JOB_NEVER_ENDS)
    service.sandbox.patch(resource_exports_per_workspace=2)
    service.worker(RUN_LIMIT_SECONDS="1")
    endless = await service.submit(resource())
    following = await service.submit(resource())
    endless, following = await service.finished(endless, following)
    assert endless.error is not None
    assert endless.error["code"] == "run-timeout"
    await assert_verified(service, following)


async def _fetches(service: Service, left: int) -> bool | None:
    """Whether so many of the faults of 1001 are left, and none of 1002."""
    waiting = {fault.workspace: fault.times for fault in service.sandbox.faults()}
    return waiting == ({"1001": left} if left else {}) or None


async def test_25_a_file_that_kills_its_workers(service: Service) -> None:
    """It is given up at the third; neither the lane nor a file that was in the same hands suffers."""
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=60, times=3, workspace="1001")
    service.sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=60, workspace="1002")
    poison, innocent = await service.submit(resource("1001")), await service.submit(resource("1002"))
    for killed in range(3):
        worker = service.worker(**BRIEFLY)

        await until(partial(_fetches, service, 2 - killed), 30, lambda: "the file to be fetched")
        worker.kill()
    service.worker()
    poison, innocent = await service.finished(poison, innocent)
    assert poison.status is Status.FAILED
    assert poison.error is not None
    assert poison.error["code"] == "poison"
    await assert_verified(service, innocent)
    (following,) = await service.finished(await service.submit(resource("1001")))
    await assert_verified(service, following)
    async with service.sessions() as session:
        lost = await session.scalar(select(func.cardinality(Run.lost_archivers)).where(Run.id == poison.run))
    assert lost == 3
