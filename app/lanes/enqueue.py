"""Telling a lane that it has work, in the transaction that brings the work."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import LaneKey
from app.lanes.notifications import LANES, notify

MAKE_LANE = text("INSERT INTO lanes (key, workspace) VALUES (:key, :workspace) ON CONFLICT (key) DO NOTHING")

# The row is locked even where nothing is to be written: a worker about to release the lane holds this lock
# until it has looked for work, so either it sees ours or we see its release.
LOCK_LANE = text("SELECT clock_timestamp() AS now, draining_at FROM lanes WHERE key = :key FOR UPDATE")

# A lane that waits as a whole (its slot is taken, its token limited) keeps its time; one that merely waits
# for a run's own backoff, or for other runs' token, does not, for the new run has none of that. A paused one
# is flagged when it is resumed.
WAKE_LANE = text("""
    UPDATE lanes SET has_work = true, next_attempt_at = now(), wait_reason = NULL
    WHERE key = :key AND (NOT has_work OR next_attempt_at > now()) AND paused_at IS NULL
      AND (wait_reason IS NULL OR :has_token AND wait_reason = 'credential_invalid')
""")


@dataclass(frozen=True)
class LockedLane:
    """What is so of a lane while it is locked: the database's time, and since when it drains, if it does."""

    now: datetime
    draining_at: datetime | None


async def enter_lane(session: AsyncSession, key: LaneKey, workspace: str) -> LockedLane:
    """Lock the lane until the caller's transaction ends; the first to come makes it."""
    while (lane := await lock_lane(session, key)) is None:
        await session.execute(MAKE_LANE, {"key": key, "workspace": workspace})
    return lane


async def wake_lane(session: AsyncSession, key: LaneKey, *, has_token: bool) -> None:
    """Flag a lane that the caller has entered as having work.

    `has_token` tells whether the token of what is queued is valid as far as is known. Workers are notified
    only when the flag turns: a NOTIFY serialises commits.
    """
    if (await session.execute(WAKE_LANE, {"key": key, "has_token": has_token})).rowcount:  # type: ignore[attr-defined]
        await notify(session, LANES, key)


async def lock_lane(session: AsyncSession, key: LaneKey) -> LockedLane | None:
    """Lock the lane's row until the transaction ends; None if there is none."""
    row = (await session.execute(LOCK_LANE, {"key": key})).one_or_none()
    return LockedLane(row.now, row.draining_at) if row else None
