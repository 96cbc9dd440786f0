"""Telling a slot that somebody else holds from a credential that has no access: both answer 403.

What Asana says with it is not documented, so that only trying tells: a run of another credential that is let
in right after the refusal has shown that it was not for the slot.
"""

from collections.abc import Callable

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.exports.models import Phase, Run, Status
from app.exports.order import IN_LANE, ORDER, READY
from app.exports.runs import begin, leave_slot, run_in_flight
from app.exports.states import change, locked_run
from app.ids import RunId
from app.lanes.claim import HeldLane
from app.lanes.lease import hold
from app.lanes.models import LaneWait, WaitReason
from app.lanes.release import park
from app.problems import Code, Problem

PROBES_BEFORE_ANOTHER = 3
FORBIDDEN_AT_ONCE = 50

OF_ANOTHER = (
    select(Run)
    .where(IN_LANE, READY, Run.kind == bindparam("kind"), Run.credential != bindparam("credential"))
    .order_by(*ORDER)
    .limit(1)
    .with_for_update(of=Run)
)
ADMITTED = aliased(Run)


async def slot_refused(
    session: AsyncSession, lane: HeldLane, run_id: RunId, pause: Callable[[int], float], *, ask_another: bool
) -> Run | None:
    """Asana answered 403: the run goes back to its place, and the lane waits until the next probe.

    After three refusals in a row, and if `ask_another`, the lane does not wait yet: the next run of the same
    kind by another credential takes the slot and is returned, to be tried at once. `pause` gives the seconds
    until the next probe from the number of refusals in a row before this one.
    """
    refused = (await hold(session, lane)).probes
    run = await locked_run(session, run_id)
    # A probe that ends as it began is kept from the callers, who still see their exports queued.
    unseen = refused > 0 and run.phase is Phase.SUBMITTING
    await leave_slot(
        session, lane, run, Status.QUEUED, wait_reason=WaitReason.UPSTREAM_SLOT_BUSY, quietly=unseen
    )
    if ask_another and refused + 1 >= PROBES_BEFORE_ANOTHER:
        if begun := await run_in_flight(session, lane):
            return begun  # committed before, and only the answer was lost
        whose = {"lane": lane.key, "kind": run.kind, "credential": run.credential}
        if other := await session.scalar(OF_ANOTHER, whose):
            await begin(session, lane, other, quietly=True)
            return other
    await park(session, lane, WaitReason.UPSTREAM_SLOT_BUSY, pause(refused), probes=refused + 1)
    return None


async def never_admitted(session: AsyncSession, run: Run, seconds: float) -> bool:
    """Whether the lane has been refused for so many seconds, and Asana never took a run of the kind from the
    credential in it."""
    since = func.now() - func.make_interval(0, 0, 0, 0, 0, 0, seconds)
    refused = select(LaneWait.id).where(
        LaneWait.lane == run.lane,
        LaneWait.until.is_(None),
        LaneWait.reason == WaitReason.UPSTREAM_SLOT_BUSY,
        LaneWait.since < since,
    )
    admitted = select(ADMITTED.id).where(
        ADMITTED.lane == run.lane,
        ADMITTED.credential == run.credential,
        ADMITTED.kind == run.kind,
        ADMITTED.submitted_at.is_not(None),
    )
    return bool(await session.scalar(select(refused.exists() & ~admitted.exists())))


async def forbid(session: AsyncSession, lane: HeldLane, refused: Run, detail: str) -> bool:
    """Fail what is queued in the lane of the same kind and credential as a refused run, some at a time;
    tells whether there may be more."""
    await hold(session, lane)
    runs = await session.scalars(
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
    failing = runs.all()
    for run in failing:
        problem = Problem(Code.UPSTREAM_FORBIDDEN, detail)
        await change(session, run, Status.FAILED, actor=lane.worker, problem=problem)
    return len(failing) == FORBIDDEN_AT_ONCE
