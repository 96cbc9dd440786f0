"""The one place where a run, and with it the exports that share it, changes its state."""

from typing import Any

from sqlalchemy import ColumnElement, func, select, update
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
LIVE = frozenset({Status.RUNNING, Status.CANCELING})
FINAL = frozenset(status for status, successors in MAY_BECOME.items() if not successors)

EVENTS = {
    Status.QUEUED: EventType.EXPORT_PROGRESSED,
    Status.RUNNING: EventType.EXPORT_PROGRESSED,
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
    request_id: str | None = None,
    quietly: bool = False,
    **columns: Any,
) -> None:
    """Bring a run and its exports into a state, or another phase of the same one, with an event for each.

    The caller holds the run: through its lane's fence, its archive fence or a row lock. `columns` are further
    columns of the run. `quietly` leaves the exports as they are: a probe of a taken slot is no news to their
    callers. Raises `IllegalChange` where the state machine has no such step.
    """
    if to is not run.status and to not in MAY_BECOME[run.status]:
        raise IllegalChange(f"{run.id}: {run.status} may not become {to}")
    starts = to is Status.RUNNING and phase is Phase.POLLING and run.started_at is None
    event = EVENTS[to] if to is not run.status else EventType.EXPORT_PROGRESSED
    run.status, run.phase, run.wait_reason = to, phase, wait_reason
    run.error = problem.as_error() if problem else None
    for name, value in columns.items():
        setattr(run, name, value)
    if starts:
        event, run.started_at = EventType.EXPORT_STARTED, func.clock_timestamp()
    if to in FINAL:
        run.finished_at, run.archiver = func.clock_timestamp(), None
    await session.flush()
    if not quietly:
        facts: Json = {
            "attempt": run.attempt,
            "phase": phase,
            "wait_reason": wait_reason,
            "asana_job_gid": run.asana_job,
            "error": run.error,
        }
        await _change_exports(session, run, to, event, actor, request_id, facts, Export.run == run.id)
    await session.refresh(run)


async def detach(
    session: AsyncSession, run: Run, export: Export, *, actor: str, request_id: str | None = None
) -> None:
    """Cancel one export of a run that goes on for others. The caller holds the run's row lock."""
    event = EventType.EXPORT_CANCELED
    facts = {"detached": True}
    await _change_exports(
        session, run, Status.CANCELED, event, actor, request_id, facts, Export.id == export.id
    )


async def _change_exports(
    session: AsyncSession,
    run: Run,
    to: Status,
    event: EventType,
    actor: str,
    request_id: str | None,
    facts: Json,
    which: ColumnElement[bool],
) -> None:
    values: dict[str, Any] = {"status": to, "version": Export.version + 1, "error": facts.get("error")}
    if event is EventType.EXPORT_STARTED:
        values["started_at"] = func.coalesce(Export.started_at, func.clock_timestamp())
    if to in FINAL:
        values["finished_at"] = func.clock_timestamp()
    changed = await session.execute(
        update(Export)
        .where(which, Export.status.not_in(FINAL))
        .values(values)
        .returning(Export.id, Export.version)
        .execution_options(synchronize_session=False)
    )
    known = {name: value for name, value in facts.items() if value is not None}
    for export, version in changed.all():
        await record(
            session,
            event,
            actor=actor,
            export=export,
            run=run.id,
            lane=run.lane,
            request_id=request_id,
            data={"status": to, "version": version, **known},
        )


async def locked_run(session: AsyncSession, run_id: str) -> Run:
    """The run as it is now, its row locked until the transaction ends."""
    statement = select(Run).where(Run.id == run_id).with_for_update()
    # Without this, a run that the session knows would be shown as it was before the lock.
    return (await session.execute(statement, execution_options={"populate_existing": True})).scalar_one()
