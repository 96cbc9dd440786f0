"""Taking free lanes, and freeing those whose holder is gone."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import LaneKey, WorkerId

# A worker whose lease has run out loses its lanes. SKIP LOCKED: one that was stopped in the middle of a
# transaction still holds row locks, and nobody should wait behind it.
RESCUE = text("""
    UPDATE lanes SET holder = NULL, next_attempt_at = now()
    WHERE key IN (
        SELECT lanes.key FROM lanes JOIN workers ON workers.id = lanes.holder
        WHERE workers.lease_expires_at < now()
        FOR UPDATE OF lanes SKIP LOCKED)
""")

# Longest waiting first, which over many claims is round robin. The fence rises with each claim.
CLAIM = text("""
    WITH free AS (
        SELECT key FROM lanes
        WHERE has_work AND holder IS NULL AND next_attempt_at <= now()
        ORDER BY next_attempt_at
        LIMIT :most
        FOR UPDATE SKIP LOCKED)
    UPDATE lanes SET holder = :worker, fence = fence + 1
    FROM free WHERE lanes.key = free.key
    RETURNING lanes.key, lanes.fence
""")

# Where requests stream in, a lane's row is locked nearly all the time, and SKIP LOCKED passes it over again
# and again. One that has waited for a second is taken by queueing for its lock.
OVERDUE = text("""
    SELECT key FROM lanes
    WHERE has_work AND holder IS NULL AND next_attempt_at < now() - interval '1 second'
    ORDER BY next_attempt_at
    LIMIT :most
""")
PATIENCE = text("SET LOCAL lock_timeout = '1s'")
CLAIM_ONE = text("""
    UPDATE lanes SET holder = :worker, fence = fence + 1
    WHERE key = :key AND has_work AND holder IS NULL AND next_attempt_at <= now()
    RETURNING key, fence
""")


@dataclass(frozen=True)
class HeldLane:
    """A lane as held by one worker; `fence` tells this holding from every other."""

    key: LaneKey
    worker: WorkerId
    fence: int


async def rescue_lanes(session: AsyncSession) -> int:
    """Free the lanes of workers whose lease has run out; returns how many."""
    return (await session.execute(RESCUE)).rowcount  # type: ignore[attr-defined,no-any-return]


async def claim_lanes(session: AsyncSession, worker: WorkerId, most: int) -> list[HeldLane]:
    """Take up to `most` free lanes that have work to do now."""
    rows = await session.execute(CLAIM, {"worker": worker, "most": most})
    return [HeldLane(row.key, worker, row.fence) for row in rows]


async def overdue_lanes(session: AsyncSession, most: int) -> Sequence[LaneKey]:
    """Up to `most` free lanes that should have been taken a second ago."""
    return (await session.scalars(OVERDUE, {"most": most})).all()


async def claim_lane(session: AsyncSession, worker: WorkerId, key: LaneKey) -> HeldLane | None:
    """Take one free lane, waiting for its lock, in a transaction of its own."""
    await session.execute(PATIENCE)
    row = (await session.execute(CLAIM_ONE, {"worker": worker, "key": key})).one_or_none()
    return HeldLane(row.key, worker, row.fence) if row else None
