"""Firing what is due by schedules. Any number of workers may look at the same time: each slot fires once."""

from collections.abc import Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.exports.accept import Rules
from app.exports.firing import due_schedules, fire
from app.exports.latency import database_now
from app.ids import ExportId, ScheduleId
from app.worker.context import Context
from app.worker.crashes import report

log = structlog.get_logger()


async def tick_schedules(ctx: Context) -> None:
    """Fire all that is due, one after the other; one that cannot be fired does not hold up the others."""
    for schedule in await ctx.write(_due):
        try:
            if export := await ctx.write(_fire, schedule, Rules.of(ctx.settings)):
                log.info("schedule.fired", schedule=schedule, export=export)
        except Exception as error:
            report("schedule", error, schedule=schedule)


async def _due(session: AsyncSession) -> Sequence[ScheduleId]:
    return await due_schedules(session, await database_now(session))


async def _fire(session: AsyncSession, schedule: ScheduleId, rules: Rules) -> ExportId | None:
    export = await fire(session, schedule, rules, await database_now(session))
    return export.id if export else None
