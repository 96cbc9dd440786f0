"""The one place where a run, and with it the exports that share it, changes its state."""

from functools import partial
from itertools import product
from typing import Any

import structlog
from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import instance_state

from app.access.models import Kind
from app.database.base import BigInt, Json
from app.events.log import EventType, new_event, record_all
from app.exports.latency import database_now, lane_waits, settle
from app.exports.models import Export, Phase, Run, Status
from app.ids import ExportId
from app.lanes.models import WaitReason
from app.lanes.notifications import notify_change
from app.metrics import ACCEPTED, EXPORTS, QUEUE_WAIT, RUN, count_start, once_committed
from app.problems import Problem
from app.schedules.watermarks import advance_watermarks

log = structlog.get_logger()

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

# Told as 0 from the beginning.
for kind, status in product(Kind, FINAL):
    EXPORTS.labels(kind, status)
for kind, counted in product(Kind, (ACCEPTED, QUEUE_WAIT, RUN)):
    counted.labels(kind)


LOCKED = (
    select(Run)
    .where(Run.id == bindparam("id"))
    .with_for_update()
    # Without this, a run that the session knows would be shown as it was before the lock.
    .execution_options(populate_existing=True)
)
OPEN = (
    select(Export)
    .where(Export.run == bindparam("run"), Export.status.not_in(FINAL))
    .order_by(Export.id)
    .with_for_update()
    .execution_options(populate_existing=True)
)
ONE_OPEN = OPEN.where(Export.id == bindparam("export"))
SEEN_RUNNING = select(Export.id).where(Export.run == bindparam("run"), Export.status.in_(LIVE)).limit(1)


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
    leaves_slot = run.status in LIVE and to not in LIVE
    run.status, run.phase, run.wait_reason = to, phase, wait_reason
    run.error = problem.as_error() if problem else None
    for name, value in columns.items():
        setattr(run, name, value)
    if starts:
        event, run.started_at = EventType.EXPORT_STARTED, func.clock_timestamp()
    if to in FINAL:
        run.finished_at, run.archiver = func.clock_timestamp(), None
    await session.flush()
    if instance_state(run).expired_attributes:
        # What the database has computed.
        await session.refresh(run)
    if leaves_slot and run.submitted_at and (left_at := run.slot_freed_at or run.finished_at):
        seconds = (left_at - run.submitted_at).total_seconds()
        once_committed(session, lambda: RUN.labels(run.kind).observe(seconds))
    facts = {"attempt": run.attempt, "phase": phase, "wait_reason": wait_reason, "error": run.error}
    once_committed(session, partial(_log_change, run, facts | {"status": to}, problem))
    if not quietly:
        await _change_exports(session, run, to, event, actor, request_id, facts)


def _log_change(run: Run, facts: Json, problem: Problem | None) -> None:
    facts = facts | {"run": run.id, "lane": run.lane, "job": run.asana_job}
    facts["error"] = problem and problem.code
    facts["detail"] = problem and problem.detail
    say = log.warning if problem else log.info
    say("run.changed", **{name: value for name, value in facts.items() if value is not None})


async def leave(
    session: AsyncSession,
    run: Run,
    export: Export,
    to: Status,
    *,
    actor: str,
    problem: Problem | None = None,
    request_id: str | None = None,
) -> None:
    """End one export of a run that goes on for others. The caller holds the run's row lock."""
    once_committed(session, lambda: log.info("export.left", export=export.id, run=run.id, status=to))
    facts = {"left_run": True, "error": problem.as_error() if problem else None}
    await _change_exports(session, run, to, EVENTS[to], actor, request_id, facts, only=export.id)


async def join(
    session: AsyncSession, run: Run, export: Export, *, actor: str, request_id: str | None
) -> None:
    """Bring a queued export to where the run is that it joins. The caller holds the run's row lock."""
    if run.status is not Status.QUEUED:
        event = EventType.EXPORT_STARTED if run.status is Status.RUNNING else EVENTS[run.status]
        facts = {"joined_run": True, "phase": run.phase}
        await _change_exports(session, run, run.status, event, actor, request_id, facts, only=export.id)


async def _change_exports(
    session: AsyncSession,
    run: Run,
    to: Status,
    event: EventType,
    actor: str,
    request_id: str | None,
    facts: Json,
    only: ExportId | None = None,
) -> None:
    found = await session.scalars(ONE_OPEN if only else OPEN, {"run": run.id, "export": only})
    changing = found.all()
    if not changing:
        return
    now = await database_now(session)
    since = min(export.phase_since for export in changing)
    waits = await lane_waits(session, [run.lane], since)
    known = {name: value for name, value in facts.items() if value is not None}
    for export in changing:
        settle(export, waits, run.not_before, now)
        export.status, export.error = to, facts.get("error")
        export.version = BigInt(export.version + 1)
        if event is EventType.EXPORT_STARTED or to in {Status.ARCHIVING, Status.SUCCEEDED}:
            export.started_at = export.started_at or now
        if to in FINAL:
            export.finished_at = now
    await session.flush()
    if event is EventType.EXPORT_STARTED:
        waits_for_slot = [(now - export.created_at).total_seconds() for export in changing]
        once_committed(session, lambda: count_start(run.kind, waits_for_slot))
    if to in FINAL:
        once_committed(session, lambda: EXPORTS.labels(run.kind, to).inc(len(changing)))
    if to is Status.SUCCEEDED and any(export.schedule for export in changing):
        await advance_watermarks(session, run.id)
    told = [
        new_event(
            event,
            actor=actor,
            export=export.id,
            run=run.id,
            lane=run.lane,
            request_id=request_id,
            data={"status": to, "version": export.version, "asana_job_gid": run.asana_job, **known},
        )
        for export in changing
    ]
    await record_all(session, told)
    await notify_change(session, run.lane, run.id, run.status)


async def seen_running(session: AsyncSession, run: Run) -> bool:
    """Whether the callers of a run in the slot see that: a probe is kept from them."""
    return await session.scalar(SEEN_RUNNING, {"run": run.id}) is not None


async def locked_run(session: AsyncSession, run_id: str) -> Run:
    """The run as it is now, its row locked until the transaction ends."""
    return (await session.execute(LOCKED, {"id": run_id})).scalar_one()
