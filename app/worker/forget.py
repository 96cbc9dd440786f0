"""The end of the event log: once an hour one worker forgets what has been kept for long enough."""

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.session import elected
from app.events.placing import LOCK, place_events
from app.worker.context import Context

# Any number that only we use.
FORGETTING_DUTY = 0x61657866
AT_ONCE = 1_000

# Goes through the log from its beginning. The events of an export are forgotten together, once it has been
# finished for long enough: its story is whole, or it is none.
FORGET = text("""
    WITH oldest AS (
        SELECT seq, export, created_at < now() - make_interval(days => :days) AS is_old
        FROM events WHERE seq > :after ORDER BY seq LIMIT :most
    ), ended AS (
        SELECT DISTINCT exports.id, finished_at FROM oldest JOIN exports ON exports.id = oldest.export
        WHERE is_old AND finished_at < now() - make_interval(days => :days)
    ), over AS (
        SELECT seq FROM oldest WHERE is_old AND export IS NULL
        UNION
        SELECT events.seq FROM ended JOIN events ON events.export = ended.id
    ), gone AS (
        DELETE FROM events USING over WHERE events.seq = over.seq RETURNING position
    )
    UPDATE event_feed SET
        forgotten_position = greatest(forgotten_position, (SELECT max(position) FROM gone)),
        forgotten_until = greatest(forgotten_until, (SELECT max(finished_at) FROM ended))
    RETURNING (SELECT count(*) FROM gone) AS forgotten,
        (SELECT seq FROM (SELECT * FROM oldest ORDER BY seq DESC LIMIT 1) AS last WHERE is_old) AS went_to
""")

log = structlog.get_logger()


async def forget_events(ctx: Context) -> int:
    """Forget what is older than the retention, some at a time; returns how many events that were.

    All have their places by then, so that no follower misses an event without being told so.
    """
    while await ctx.write(_place):
        pass
    after: int | None = 0
    forgotten = 0
    while after is not None:
        some, after = await ctx.write(_forget, ctx.settings.event_retention_days, after)
        forgotten += some
    if forgotten:
        log.info("events.forgotten", events=forgotten)
    return forgotten


async def _place(session: AsyncSession) -> bool:
    return await elected(session, FORGETTING_DUTY) and await place_events(session)


async def _forget(session: AsyncSession, days: int, after: int) -> tuple[int, int | None]:
    """How many were forgotten, and up to which `seq` it has come if there may be more."""
    if not await elected(session, FORGETTING_DUTY):
        return 0, None
    await session.execute(LOCK)
    row = (await session.execute(FORGET, {"days": days, "after": after, "most": AT_ONCE})).one()
    return row.forgotten, row.went_to
