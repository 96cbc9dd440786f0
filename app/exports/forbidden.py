"""Telling a slot that somebody else holds from a credential that has no access: both answer 403.

What Asana says with it is not documented, so that only trying tells: a run of another credential that is let
in right after the refusal has shown that it was not for the slot.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.access.models import Credential, Kind
from app.exports.models import Run, Status
from app.exports.order import IN_LANE, ORDER, READY
from app.exports.runs import begin, leave_slot, run_in_flight
from app.exports.states import change, locked_run, seen_running
from app.ids import RunId
from app.lanes.claim import HeldLane
from app.lanes.lease import hold
from app.lanes.models import LaneWait, WaitReason
from app.lanes.release import park
from app.metrics import SLOT_EXTERNAL, once_committed
from app.problems import Code, Problem

PROBES_BEFORE_ANOTHER = 3
# Each may have a thousand exports that share it.
FORBIDDEN_AT_ONCE = 10

OF_ANOTHER = (
    select(Run)
    .where(
        IN_LANE,
        READY,
        Run.kind == bindparam("kind"),
        Run.credential.not_in(bindparam("refused", expanding=True)),
    )
    .order_by(*ORDER)
    .limit(1)
    .with_for_update(of=Run)
)
ADMITTED = aliased(Run)


async def slot_refused(
    session: AsyncSession,
    lane: HeldLane,
    run_id: RunId,
    pause: Callable[[int], float],
    *,
    before: Sequence[Run] = (),
) -> Run | None:
    """Asana answered 403: the run goes back to its place, and the lane waits until the next probe.

    After three refusals in a row the lane does not wait yet: the next run of the same kind by a credential
    that was not refused `before` in this round takes the slot and is returned, to be tried at once. `pause`
    gives the seconds until the next probe from the number of refusals in a row before this one.
    """
    state = await hold(session, lane)
    run = await locked_run(session, run_id)
    # A probe that ends as it began is kept from the callers, who still see their exports queued.
    unseen = not await seen_running(session, run)
    await leave_slot(
        session, lane, run, Status.QUEUED, wait_reason=WaitReason.UPSTREAM_SLOT_BUSY, quietly=unseen
    )
    if state.probes + 1 >= PROBES_BEFORE_ANOTHER and not state.paused:
        if begun := await run_in_flight(session, lane):
            return begun  # committed before, and only the answer was lost
        refused = [run.credential, *(each.credential for each in before)]
        whose = {"lane": lane.key, "kind": run.kind, "refused": refused}
        if other := await session.scalar(OF_ANOTHER, whose):
            await begin(session, lane, other, quietly=True, out_of_turn=True)
            return other
    seconds = pause(state.probes)
    await park(session, lane, WaitReason.UPSTREAM_SLOT_BUSY, seconds, probes=state.probes + 1)
    once_committed(session, lambda: SLOT_EXTERNAL.inc(seconds))
    return None


async def never_admitted(session: AsyncSession, run: Run, seconds: float) -> bool:
    """Whether Asana has refused the run's lane for so many seconds, all of which something of the run's kind
    and credential was there to be tried, and never took any of that."""
    since = func.now() - timedelta(seconds=seconds)
    refused = select(LaneWait.id).where(
        LaneWait.lane == run.lane,
        LaneWait.until.is_(None),
        LaneWait.reason == WaitReason.UPSTREAM_SLOT_BUSY,
        LaneWait.since < since,
    )
    same = ADMITTED.lane == run.lane, ADMITTED.credential == run.credential, ADMITTED.kind == run.kind
    waited = select(ADMITTED.id).where(*same, ADMITTED.status == Status.QUEUED, ADMITTED.queued_at < since)
    if run.kind is Kind.GRAPH:
        waited = waited.where(ADMITTED.request["parent"].astext == run.request["parent"])
    old_token = select(Credential.id).where(Credential.id == run.credential, Credential.updated_at < since)
    # Another attempt forgets the time of the one before.
    admitted = select(ADMITTED.id).where(*same, or_(ADMITTED.submitted_at.is_not(None), ADMITTED.attempt > 1))
    said = refused.exists() & waited.exists() & old_token.exists() & ~admitted.exists()
    return bool(await session.scalar(select(said)))


async def forbid(session: AsyncSession, lane: HeldLane, refused: Run, detail: str) -> bool:
    """Fail what is queued in the lane of the same kind and credential as a refused run, some at a time;
    tells whether there may be more. Of graphs only those with the same parent: another may be accessible."""
    await hold(session, lane)
    runs = (
        select(Run)
        .where(
            Run.lane == lane.key,
            Run.status == Status.QUEUED,
            Run.credential == refused.credential,
            Run.kind == refused.kind,
        )
        .order_by(*ORDER)
        .limit(FORBIDDEN_AT_ONCE)
        .with_for_update()
    )
    if refused.kind is Kind.GRAPH:
        runs = runs.where(Run.request["parent"].astext == refused.request["parent"])
    failing = (await session.scalars(runs)).all()
    for run in failing:
        problem = Problem(Code.UPSTREAM_FORBIDDEN, detail)
        await change(session, run, Status.FAILED, actor=lane.worker, problem=problem)
    return len(failing) == FORBIDDEN_AT_ONCE
