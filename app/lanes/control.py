"""What an administrator may do to a lane: hold it, let it run empty, and let it go on."""

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.log import Cause, EventType, audit
from app.ids import LaneKey
from app.lanes.enqueue import enter_lane
from app.lanes.notifications import LANES, notify

PAUSE = text("UPDATE lanes SET paused_at = clock_timestamp() WHERE key = :key AND paused_at IS NULL")
DRAIN = text("UPDATE lanes SET draining_at = clock_timestamp() WHERE key = :key AND draining_at IS NULL")
# Flagged whether there is work or not: who claims it looks, and finds out.
RESUME = text("""
    UPDATE lanes SET paused_at = NULL, draining_at = NULL, has_work = true, next_attempt_at = now()
    WHERE key = :key AND (paused_at IS NOT NULL OR draining_at IS NOT NULL)
""")


async def pause(session: AsyncSession, key: LaneKey, workspace: str, cause: Cause) -> None:
    """Start nothing from now on; what is in progress at Asana is brought to its end."""
    await _changed(session, key, workspace, PAUSE, EventType.LANE_PAUSED, cause)


async def drain(session: AsyncSession, key: LaneKey, workspace: str, cause: Cause) -> None:
    """Accept nothing from now on; what is queued runs."""
    await _changed(session, key, workspace, DRAIN, EventType.LANE_DRAINING, cause)


async def resume(session: AsyncSession, key: LaneKey, workspace: str, cause: Cause) -> None:
    """End a pause and a drain; a lane that waits for something else tries again at once."""
    if await _changed(session, key, workspace, RESUME, EventType.LANE_RESUMED, cause):
        await notify(session, LANES, key)


async def _changed(
    session: AsyncSession,
    key: LaneKey,
    workspace: str,
    change: TextClause,
    event: EventType,
    cause: Cause,
) -> bool:
    """Asked for what is so already, nothing happens."""
    await enter_lane(session, key, workspace)
    changed = bool((await session.execute(change, {"key": key})).rowcount)  # type: ignore[attr-defined]
    if changed:
        await audit(session, event, cause, lane=key, data={"workspace": workspace})
    return changed
