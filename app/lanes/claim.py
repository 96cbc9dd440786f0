"""Taking free lanes, and freeing those whose holder is gone."""

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
        WHERE has_work AND holder IS NULL AND next_attempt_at <= now() AND paused_at IS NULL
        ORDER BY next_attempt_at
        LIMIT :most
        FOR UPDATE SKIP LOCKED)
    UPDATE lanes SET holder = :worker, fence = fence + 1
    FROM free WHERE lanes.key = free.key
    RETURNING lanes.key, lanes.workspace, lanes.fence
""")


@dataclass(frozen=True)
class HeldLane:
    """A lane as held by one worker; `fence` tells this holding from every other."""

    key: LaneKey
    workspace: str
    worker: WorkerId
    fence: int


async def rescue_lanes(session: AsyncSession) -> int:
    """Free the lanes of workers whose lease has run out; returns how many."""
    return (await session.execute(RESCUE)).rowcount  # type: ignore[attr-defined,no-any-return]


async def claim_lanes(session: AsyncSession, worker: WorkerId, most: int) -> list[HeldLane]:
    """Take up to `most` free lanes that have work to do now."""
    rows = await session.execute(CLAIM, {"worker": worker, "most": most})
    return [HeldLane(row.key, row.workspace, worker, row.fence) for row in rows]
