"""What is due by the clock and not by an event: one worker looks for it every few seconds."""

from collections.abc import Sequence

import structlog
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.session import elected
from app.exports.cancel import give_up_waiting
from app.exports.models import Export, Status
from app.exports.order import promote
from app.exports.risk import lanes_with_deadlines, tell_of_risks
from app.ids import ExportId, LaneKey
from app.lanes.blocked import tell_blocked
from app.worker.context import Context

# Any number that only we use.
DEADLINES_DUTY = 0x61657864
WATCH_DUTY = 0x61657877
AT_ONCE = 1000

OVERDUE = (
    select(Export.id)
    .where(Export.status == Status.QUEUED, Export.started_at.is_(None), Export.queue_until <= func.now())
    .order_by(Export.queue_until)
    .limit(AT_ONCE)
)

log = structlog.get_logger()


async def keep_deadlines(ctx: Context) -> None:
    """Let runs rise by waiting, fail exports whose `queue_ttl` is over, tell of blocked lanes."""
    for export in await ctx.write(_due, ctx.settings.blocked_seconds, ctx.lease.worker):
        await ctx.write(give_up_waiting, export, actor=ctx.lease.worker)


async def watch_deadlines(ctx: Context) -> None:
    """Tell of exports that will probably miss their `deliver_by`, one lane at a time."""
    for lane in await ctx.write(_watched):
        if told := await ctx.write(tell_of_risks, lane, ctx.lease.worker):
            log.warning("exports.at_risk", lane=lane, exports=told)


async def _watched(session: AsyncSession) -> Sequence[LaneKey]:
    """None when another worker looks just now; should both look, the second finds all told."""
    return await lanes_with_deadlines(session) if await elected(session, WATCH_DUTY) else ()


async def _due(session: AsyncSession, blocked_seconds: float, worker: str) -> Sequence[ExportId]:
    """Exports that have waited for too long; none when another worker looks just now."""
    if not await elected(session, DEADLINES_DUTY):
        return ()
    if risen := await promote(session, AT_ONCE):
        log.info("runs.promoted", runs=risen)
    await tell_blocked(session, blocked_seconds, actor=worker)
    return (await session.scalars(OVERDUE)).all()
