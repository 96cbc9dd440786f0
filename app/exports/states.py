"""The one place where a run, and with it the exports that share it, changes its state."""

from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.base import Json
from app.events.log import EventType, record
from app.exports.models import Export, Phase, Run, Status
from app.lanes.models import WaitReason
from app.problems import Problem

MAY_BECOME: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELED, Status.FAILED}),
    Status.RUNNING: frozenset({Status.ARCHIVING, Status.QUEUED, Status.CANCELING, Status.FAILED}),
    Status.CANCELING: frozenset({Status.CANCELED}),
    Status.ARCHIVING: frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELED: frozenset(),
}
FINAL = frozenset(status for status, successors in MAY_BECOME.items() if not successors)

EVENTS = {
    Status.QUEUED: EventType.EXPORT_PROGRESSED,
    Status.RUNNING: EventType.EXPORT_STARTED,
    Status.CANCELING: EventType.EXPORT_PROGRESSED,
    Status.ARCHIVING: EventType.EXPORT_PROGRESSED,
    Status.SUCCEEDED: EventType.EXPORT_SUCCEEDED,
    Status.FAILED: EventType.EXPORT_FAILED,
    Status.CANCELED: EventType.EXPORT_CANCELED,
}


class IllegalChange(Exception):
    """A change that the life of a run does not know: a fault of the caller's code."""


async def change(
    session: AsyncSession,
    run: Run,
    to: Status,
    *,
    actor: str,
    phase: Phase | None = None,
    wait_reason: WaitReason | None = None,
    problem: Problem | None = None,
    **columns: Any,
) -> None:
    """Bring a run and its exports into a state, or another phase of the same one, with an event for each.

    The caller holds the run: through its lane's fence, its archive fence or a row lock. `columns` are further
    columns of the run. Raises `IllegalChange` where the state machine has no such step.
    """
    if to is not run.status and to not in MAY_BECOME[run.status]:
        raise IllegalChange(f"{run.id}: {run.status} may not become {to}")
    event = EVENTS[to] if to is not run.status else EventType.EXPORT_PROGRESSED
    error = problem.as_error() if problem else None
    run.status, run.phase, run.wait_reason, run.error = to, phase, wait_reason, error
    for name, value in columns.items():
        setattr(run, name, value)
    if to is Status.RUNNING and run.started_at is None:
        run.started_at = func.clock_timestamp()
    if to in FINAL:
        run.finished_at = func.clock_timestamp()
    await session.flush()
    await _tell_exports(session, run, event, actor, error)
    await session.refresh(run)


async def _tell_exports(
    session: AsyncSession, run: Run, event: EventType, actor: str, error: Json | None
) -> None:
    values: dict[str, Any] = {"status": run.status, "version": Export.version + 1, "error": error}
    if run.status is Status.RUNNING:
        values["started_at"] = func.coalesce(Export.started_at, func.clock_timestamp())
    if run.status in FINAL:
        values["finished_at"] = func.clock_timestamp()
    changed = await session.execute(
        update(Export)
        .where(Export.run == run.id, Export.status.not_in(FINAL))
        .values(values)
        .returning(Export.id, Export.version)
        .execution_options(synchronize_session=False)
    )
    for export, version in changed.all():
        data = {"status": run.status, "version": version, "attempt": run.attempt}
        data |= {"phase": run.phase} if run.phase else {}
        data |= {"wait_reason": run.wait_reason} if run.wait_reason else {}
        data |= {"asana_job_gid": run.asana_job} if run.asana_job else {}
        data |= {"error": error} if error else {}
        await record(session, event, actor=actor, export=export, run=run.id, lane=run.lane, data=data)


async def locked_run(session: AsyncSession, run_id: str) -> Run:
    """The run as it is now, its row locked until the transaction ends."""
    return (await session.execute(select(Run).where(Run.id == run_id).with_for_update())).scalar_one()
