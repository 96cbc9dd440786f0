"""Leaving a run: by canceling, or by having waited too long. The last one to leave takes the run with it."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.exports.latency import database_now
from app.exports.models import Export, Run, Status
from app.exports.order import stand
from app.exports.sharing import wanted_by_others
from app.exports.states import FINAL, change, leave, locked_run
from app.ids import ExportId
from app.lanes.enqueue import lock_lane
from app.problems import Code, Problem, ProblemError


async def cancel(session: AsyncSession, export_id: ExportId, *, actor: str, request_id: str | None) -> Export:
    """Cancel in the caller's transaction; asked again, the answer is the same.

    A job at Asana cannot be stopped: the last export of a run that holds the slot is `canceling` until the
    job has ended, and its file is dropped. Whoever commits first wins against success. Raises `ProblemError`
    `not-cancelable` for an export that has succeeded or failed.
    """
    export, run = await _locked(session, export_id)
    if export.status in {Status.CANCELED, Status.CANCELING}:
        return export
    if export.status in FINAL:
        raise ProblemError(Code.NOT_CANCELABLE, f"The export has already {export.status}.")
    if await wanted_by_others(session, export):
        await leave(session, run, export, Status.CANCELED, actor=actor, request_id=request_id)
        await _stand_anew(session, run)
    elif run.status is Status.RUNNING:
        await change(
            session,
            run,
            Status.CANCELING,
            actor=actor,
            request_id=request_id,
            phase=run.phase,
            wait_reason=run.wait_reason,
        )
    else:
        await change(session, run, Status.CANCELED, actor=actor, request_id=request_id)
    await session.refresh(export)
    return export


async def give_up_waiting(session: AsyncSession, export_id: ExportId, *, actor: str) -> None:
    """Fail an export that has not started though its `queue_ttl` is over; another attempt is no new wait."""
    export, run = await _locked(session, export_id)
    if export.started_at or export.status is not Status.QUEUED or run.status is not Status.QUEUED:
        return
    waited = (await database_now(session) - export.created_at).total_seconds()
    problem = Problem(Code.QUEUE_TTL_EXCEEDED, f"It was still queued after {waited:.0f} seconds.")
    if await wanted_by_others(session, export):
        await leave(session, run, export, Status.FAILED, actor=actor, problem=problem)
        await _stand_anew(session, run)
    else:
        await change(session, run, Status.FAILED, actor=actor, problem=problem)


async def _locked(session: AsyncSession, export_id: ExportId) -> tuple[Export, Run]:
    """The export and its run, in the order in which workers lock: first the lane, then the run."""
    export = await session.get_one(Export, export_id)
    await lock_lane(session, export.lane)
    run = await locked_run(session, export.run)
    await session.refresh(export)
    return export, run


async def _stand_anew(session: AsyncSession, run: Run) -> None:
    if run.status is Status.QUEUED:
        await stand(session, run, await database_now(session))
