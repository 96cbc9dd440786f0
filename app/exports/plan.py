"""What would become of an export if it were asked for now. Nothing is written."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.exports.accept import Rules, Submission, admit
from app.exports.estimates import (
    Estimate,
    durations_like,
    durations_of_lane,
    estimate_queued,
    estimate_running,
)
from app.exports.latency import database_now
from app.exports.models import Run, Status
from app.exports.order import count_ahead, count_ahead_of_place, place_for
from app.exports.quotas import check_quotas
from app.exports.reading import ExportView
from app.exports.sharing import joinable
from app.exports.states import LIVE
from app.ids import LaneKey, RunId
from app.lanes.models import Lane


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
    await check_quotas(session, client, admitted.grant, admitted.lane, rules.limits)
    run = await session.scalar(joinable(admitted.fingerprint, wanted.max_age))
    if run and run.status is not Status.QUEUED:
        return Plan(admitted.lane, run.status, run.id, None, await _of_running(session, run))
    if run:
        ahead = await count_ahead(session, run)
    else:
        place = await place_for(session, admitted.lane, client.id, wanted.priority, wanted.deliver_by)
        ahead = await count_ahead_of_place(session, admitted.lane, place)
    request = wanted.request
    own = await durations_like(session, request.workspace, request.kind, request.shape())
    now = await database_now(session)
    held_up = await session.scalar(
        select(Lane.key).where(
            Lane.key == admitted.lane, Lane.wait_reason.is_not(None) | Lane.paused_at.is_not(None)
        )
    )
    estimate = None
    if held_up is None:
        in_flight = await _in_flight(session, admitted.lane)
        lane = await durations_of_lane(session, admitted.lane)
        estimate = estimate_queued(now, ahead, in_flight, lane, own)
    return Plan(admitted.lane, Status.QUEUED, run.id if run else None, ahead, estimate)


async def estimate_of(session: AsyncSession, view: ExportView) -> Estimate | None:
    """When an export that was read will start and finish; None where that cannot be told."""
    run = view.run
    if view.export.status is Status.QUEUED and view.ahead is not None:
        if view.lane.paused_at or view.lane.wait_reason:
            return None
        own = await durations_like(session, run.workspace, run.kind, run.shape)
        lane = await durations_of_lane(session, run.lane)
        return estimate_queued(view.now, view.ahead, await _in_flight(session, run.lane), lane, own)
    return await _of_running(session, run) if view.export.status is Status.RUNNING else None


async def _of_running(session: AsyncSession, run: Run) -> Estimate | None:
    if run.status is not Status.RUNNING or run.submitted_at is None:
        return None
    now = await database_now(session)
    own = await durations_like(session, run.workspace, run.kind, run.shape)
    return estimate_running(now, (now - run.submitted_at).total_seconds(), own)


async def _in_flight(session: AsyncSession, lane: LaneKey) -> float | None:
    """Seconds for which the run in the lane's slot has been in progress, if there is one."""
    since = select(
        func.extract("epoch", func.clock_timestamp() - func.coalesce(Run.submitted_at, func.now()))
    ).where(Run.lane == lane, Run.status.in_(LIVE))
    seconds = await session.scalar(since)
    return None if seconds is None else max(0.0, float(seconds))
