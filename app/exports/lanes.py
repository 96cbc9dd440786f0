"""Lanes as their administrators see them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.exports.models import Run, Status
from app.exports.states import LIVE
from app.ids import LaneKey
from app.lanes.models import Lane, LaneWait, WaitReason, Worker


class LaneState(StrEnum):
    """What an administrator has said: `open`; `paused` starts nothing, `draining` accepts nothing."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


@dataclass(frozen=True)
class LaneView:
    """A lane with what is in it. `next_attempt_at` is told while it waits as a whole: its next probe."""

    key: LaneKey
    state: LaneState
    holder: str | None
    slot: Run | None
    queued: int
    oldest_queued_at: datetime | None
    archiving: int
    wait_reason: WaitReason | None
    waiting_since: datetime | None
    next_attempt_at: datetime | None
    refusals: int


async def lane_view(session: AsyncSession, key: LaneKey) -> LaneView:
    """The lane as it is; one that nothing has ever been in is open and empty."""
    row = (
        await session.execute(
            select(Lane, Worker.name, LaneWait.since)
            .outerjoin(Worker, Worker.id == Lane.holder)
            .outerjoin(LaneWait, (LaneWait.lane == Lane.key) & LaneWait.until.is_(None))
            .where(Lane.key == key)
        )
    ).one_or_none()
    if row is None:
        return LaneView(key, LaneState.OPEN, None, None, 0, None, 0, None, None, None, 0)
    lane, holder, since = row
    queued, oldest, archiving = (
        await session.execute(
            select(
                func.count().filter(Run.status == Status.QUEUED),
                func.min(Run.queued_at).filter(Run.status == Status.QUEUED),
                func.count().filter(Run.status == Status.ARCHIVING),
            ).where(Run.lane == key, Run.status.in_([Status.QUEUED, Status.ARCHIVING]))
        )
    ).one()
    slot = await session.scalar(select(Run).where(Run.lane == key, Run.status.in_(LIVE)))
    reason = WaitReason.LANE_PAUSED if lane.paused_at else lane.wait_reason
    return LaneView(
        key=key,
        state=_state(lane),
        holder=holder,
        slot=slot,
        queued=queued,
        oldest_queued_at=oldest,
        archiving=archiving,
        wait_reason=reason,
        waiting_since=since,
        next_attempt_at=lane.next_attempt_at if lane.wait_reason and not lane.paused_at else None,
        refusals=lane.probes,
    )


def _state(lane: Lane) -> LaneState:
    if lane.paused_at:
        return LaneState.PAUSED
    return LaneState.DRAINING if lane.draining_at else LaneState.OPEN
