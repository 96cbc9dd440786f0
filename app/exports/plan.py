"""What would become of an export if it were asked for now. Nothing is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Double, bindparam, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Kind
from app.exports.accept import Rules, Submission, admit, refuse_draining
from app.exports.estimates import Durations, Estimate, estimate_queued, estimate_running, past_durations
from app.exports.latency import database_now
from app.exports.models import Run, Status
from app.exports.order import count_ahead, count_ahead_of_place, place_for
from app.exports.quotas import check_quotas
from app.exports.reading import ExportView
from app.exports.sharing import joinable
from app.exports.states import LIVE
from app.ids import ExportId, LaneKey, RunId
from app.lanes.models import Lane

# Whether something holds up the lane as a whole, and for how many seconds the run in its slot has been in
# progress, if there is one.
IN_FLIGHT = (
    select(func.extract("epoch", func.clock_timestamp() - func.coalesce(Run.submitted_at, func.now())))
    .where(Run.lane == Lane.key, Run.status.in_(LIVE))
    .scalar_subquery()
)
LANE_NOW = select(
    or_(Lane.wait_reason.is_not(None), Lane.paused_at.is_not(None)), cast(IN_FLIGHT, Double)
).where(Lane.key == bindparam("lane"))


@dataclass(frozen=True)
class Plan:
    """Where an export would stand; `shares` is the run that it would join."""

    lane: LaneKey
    status: Status
    shares: RunId | None
    ahead: int | None
    estimate: Estimate | None


async def plan(session: AsyncSession, client: Client, wanted: Submission, rules: Rules) -> Plan:
    """Raises `ProblemError` where `accept` would."""
    admitted = await admit(session, client, wanted, rules.lane_scope)
    refuse_draining(admitted.workspace.gid, admitted.draining_at)
    await check_quotas(session, client, admitted.grant, admitted.lane, rules.limits)
    now = await database_now(session)
    run = await joinable(session, admitted.fingerprint, wanted.max_age)
    if run and run.status is not Status.QUEUED:
        _, own = await past_durations(session, run.lane, run.workspace, run.kind, run.shape)
        return Plan(admitted.lane, run.status, run.id, None, _of_running(run, now, own))
    if run:
        ahead = await count_ahead(session, run)
    else:
        place = await place_for(session, admitted.lane, client.id, wanted.priority, wanted.deliver_by)
        ahead = await count_ahead_of_place(session, admitted.lane, place, now)
    request = wanted.request
    lane, own = await past_durations(session, admitted.lane, request.workspace, request.kind, request.shape())
    held_up, in_flight = (await session.execute(LANE_NOW, {"lane": admitted.lane})).one_or_none() or (
        False,
        None,
    )
    estimate = None if held_up else estimate_queued(now, ahead, in_flight, lane, own)
    return Plan(admitted.lane, Status.QUEUED, run.id if run else None, ahead, estimate)


async def estimate_of(session: AsyncSession, view: ExportView) -> Estimate | None:
    """When an export that was read will start and finish; None where that cannot be told."""
    return (await estimates_of(session, [view]))[view.export.id]


async def estimates_of(session: AsyncSession, views: Iterable[ExportView]) -> dict[ExportId, Estimate | None]:
    """The same of many, with one look into the past for all that are alike."""
    past = dict[tuple[LaneKey, str, Kind, str], tuple[Durations, Durations]]()
    estimates = dict[ExportId, Estimate | None]()
    for view in views:
        estimates[view.export.id] = None
        if _can_be_told(view):
            alike = view.run.lane, view.run.workspace, view.run.kind, view.run.shape
            if alike not in past:
                past[alike] = await past_durations(session, *alike)
            estimates[view.export.id] = _estimate(view, *past[alike])
    return estimates


def _can_be_told(view: ExportView) -> bool:
    if view.export.status is Status.RUNNING:
        return view.run.status is Status.RUNNING and view.run.submitted_at is not None
    return view.ahead is not None and not view.lane.paused_at and not view.lane.wait_reason


def _estimate(view: ExportView, lane: Durations, own: Durations) -> Estimate | None:
    if view.ahead is None:
        return _of_running(view.run, view.now, own)
    since = view.slot_taken_since
    in_flight = (view.now - since).total_seconds() if since else None
    return estimate_queued(view.now, view.ahead, in_flight, lane, own)


def _of_running(run: Run, now: datetime, own: Durations) -> Estimate | None:
    if run.status is not Status.RUNNING or run.submitted_at is None:
        return None
    return estimate_running(now, (now - run.submitted_at).total_seconds(), own)
