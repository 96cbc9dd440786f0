"""Up to which moment the exports of a schedule have data, so that the next one asks for what came after.

An export asks from the watermark on, as it was when the export was fired. All before that is known to be
had, so when it has succeeded, all is had up to the moment at which Asana began to read. That holds whatever
becomes of other exports and in whichever order they end, so the latest such moment is the watermark. Where
Asana does not tell the moment, nothing is taken for it.
"""

from datetime import datetime

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import RunId, ScheduleId
from app.schedules.models import Watermark

ADVANCE = text("""
    UPDATE watermarks SET moment = greatest(moment, runs.data_from)
    FROM exports JOIN runs ON runs.id = exports.run
    WHERE exports.run = :run AND exports.status = 'succeeded'
      AND watermarks.schedule = exports.schedule AND exports.created_at >= watermarks.since
""")


async def advance_watermarks(session: AsyncSession, run: RunId) -> None:
    """A run has succeeded, in the caller's transaction: so far reach the schedules that share it."""
    await session.execute(ADVANCE, {"run": run})


async def reset_watermark(session: AsyncSession, schedule: ScheduleId, moment: datetime | None) -> None:
    """Begin from here: exports asked for before say nothing of what is asked for from now on."""
    values = {"moment": moment, "since": func.clock_timestamp()}
    statement = insert(Watermark).values(schedule=schedule, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["schedule"], set_=values))


async def watermark_of(session: AsyncSession, schedule: ScheduleId) -> datetime | None:
    """The moment as it is now."""
    found = await session.get(Watermark, schedule, populate_existing=True)
    return found.moment if found else None
