"""A lane paused, drained and resumed under a worker that serves it."""

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import EVERYBODY
from app.events.log import Cause
from app.exports.models import Export, Phase, Status
from app.exports.reading import ExportFilter, export_views
from app.ids import LaneKey
from app.lanes.control import pause, resume
from app.lanes.models import WaitReason
from tests.system.conftest import BRIEFLY, Service
from tests.system.exports import assert_verified, resource

Act = Callable[[AsyncSession, LaneKey, str, Cause], Awaitable[None]]


async def told(service: Service, act: Act) -> None:
    async with service.sessions.begin() as session:
        await act(session, LaneKey("1001"), "1001", Cause("test"))


async def wait_reason(service: Service, export: Export) -> WaitReason | None:
    async with service.sessions() as session:
        views = await export_views(session, EVERYBODY, ExportFilter(), before=None, most=100)
    return next(view.wait_reason for view in views if view.export.id == export.id)


async def test_a_paused_lane_ends_what_it_has_begun_and_starts_nothing(service: Service) -> None:
    service.sandbox.patch(run_seconds=(60, 60))
    worker = service.worker(**BRIEFLY)
    first, second = await service.submit(resource()), await service.submit(resource())
    await service.until_run(first, lambda run: run.phase is Phase.POLLING)
    await told(service, pause)
    (first,) = await service.finished(first)
    await assert_verified(service, first)
    # A lane of another workspace goes on meanwhile, which also shows that the worker had the time.
    (other,) = await service.finished(await service.submit(resource("1002")))
    await assert_verified(service, other)
    assert (await service.run_of(second)).status is Status.QUEUED
    assert await wait_reason(service, second) is WaitReason.LANE_PAUSED
    worker.kill()
    service.worker()
    third = await service.submit(resource())
    await told(service, resume)
    for export in await service.finished(second, third):
        await assert_verified(service, export)


async def test_what_is_in_progress_when_a_worker_dies_is_ended_though_the_lane_is_paused(
    service: Service,
) -> None:
    service.sandbox.patch(run_seconds=(120, 120))
    worker = service.worker(**BRIEFLY)
    export = await service.submit(resource())
    await service.until_run(export, lambda run: run.phase is Phase.POLLING)
    await told(service, pause)
    worker.kill()
    service.worker()
    (export,) = await service.finished(export)
    await assert_verified(service, export)
