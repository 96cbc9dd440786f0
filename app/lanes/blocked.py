"""Telling when a lane has been refused by Asana for long, and when that is over."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.log import EventType, record

BLOCKED = text("""
    UPDATE lane_waits SET blocked_at = clock_timestamp()
    WHERE until IS NULL AND blocked_at IS NULL AND reason = 'upstream_slot_busy'
      AND since < now() - make_interval(secs => :seconds)
    RETURNING lane, since
""")
UNBLOCKED = text("""
    UPDATE lane_waits SET unblocked_at = clock_timestamp()
    WHERE blocked_at IS NOT NULL AND unblocked_at IS NULL AND until IS NOT NULL
    RETURNING lane, since, until
""")


async def tell_blocked(session: AsyncSession, seconds: float, *, actor: str) -> None:
    """Record `lane.blocked` for lanes refused for so many seconds, and `lane.unblocked` at the end of it."""
    for row in await session.execute(BLOCKED, {"seconds": seconds}):
        facts = {"since": row.since.isoformat()}
        await record(session, EventType.LANE_BLOCKED, actor=actor, lane=row.lane, data=facts)
    for row in await session.execute(UNBLOCKED):
        facts = {"since": row.since.isoformat(), "until": row.until.isoformat()}
        await record(session, EventType.LANE_UNBLOCKED, actor=actor, lane=row.lane, data=facts)
