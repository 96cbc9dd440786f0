"""What would become of an export if it were asked for now. Nothing is written."""

from dataclasses import dataclass

from sqlalchemy import Double, bindparam, cast, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.exports.accept import Rules, Submission, admit, refuse_draining
from app.exports.estimates import Estimate, estimate_queued, estimate_running, past_durations
from app.exports.latency import database_now
from app.exports.models import Run, Status
from app.exports.order import count_ahead, count_ahead_of_place, place_for
from app.exports.quotas import check_quotas
from app.exports.reading import ExportView
from app.exports.sharing import joinable
from app.exports.states import LIVE
from app.ids import LaneKey, RunId
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
        return Plan(admitted.lane, run.status, run.id, None, await _of_running(session, run))
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
    run = view.run
    if view.export.status is Status.RUNNING:
        return await _of_running(session, run)
    if view.ahead is None or view.lane.paused_at or view.lane.wait_reason:
        return None
    lane, own = await past_durations(session, run.lane, run.workspace, run.kind, run.shape)
    since = view.slot_taken_since
    in_flight = (view.now - since).total_seconds() if since else None
    return estimate_queued(view.now, view.ahead, in_flight, lane, own)


async def _of_running(session: AsyncSession, run: Run) -> Estimate | None:
    if run.status is not Status.RUNNING or run.submitted_at is None:
        return None
    now = await database_now(session)
    _, own = await past_durations(session, run.lane, run.workspace, run.kind, run.shape)
    return estimate_running(now, (now - run.submitted_at).total_seconds(), own)
