"""Canceling an export: it leaves its run; the last one to leave takes the run with it."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.exports.models import Export, Run, Status
from app.exports.states import FINAL, change, detach, locked_run
from app.ids import ExportId
from app.lanes.enqueue import lock_lane
from app.problems import Code, ProblemError


async def cancel(session: AsyncSession, export_id: ExportId, *, actor: str, request_id: str | None) -> Export:
    """Cancel in the caller's transaction; asked again, the answer is the same.

    A job at Asana cannot be stopped: the last export of a run that holds the slot is `canceling` until the
    job has ended, and its file is dropped. Whoever commits first wins against success. Raises `ProblemError`
    `not-cancelable` for an export that has succeeded or failed.
    """
    export = await session.get_one(Export, export_id)
    run = await session.get_one(Run, export.run)
    # In the order in which workers lock: first the lane, then the run.
    await lock_lane(session, run.lane)
    run = await locked_run(session, run.id)
    await session.refresh(export)
    if export.status in {Status.CANCELED, Status.CANCELING}:
        return export
    if export.status in FINAL:
        raise ProblemError(Code.NOT_CANCELABLE, f"The export has already {export.status}.")
    if await _is_shared(session, export):
        await detach(session, run, export, actor=actor, request_id=request_id)
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


async def _is_shared(session: AsyncSession, export: Export) -> bool:
    others = select(Export.id).where(
        Export.run == export.run, Export.id != export.id, Export.status.not_in(FINAL)
    )
    return await session.scalar(others.limit(1)) is not None
