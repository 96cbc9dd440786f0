"""Deadlines that will probably be missed, told while there is time to do something about it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.base import BigInt
from app.events.log import EventType, new_event, record_all
from app.exports.estimates import Estimate
from app.exports.latency import database_now
from app.exports.models import Export, Status
from app.exports.plan import estimates_of
from app.exports.reading import views_of
from app.ids import ExportId, LaneKey
from app.lanes.notifications import notify_change

# The earliest deadlines of a lane: those behind them come to their turn as these end or are told of.
AT_ONCE = 200

# As the index on them says it.
IS_WATCHED = Export.deliver_by.is_not(None) & Export.at_risk_since.is_(None) & Export.finished_at.is_(None)
LANES = select(Export.lane).where(IS_WATCHED).distinct()
EARLIEST = (
    select(Export.id)
    .where(Export.lane == bindparam("lane"), IS_WATCHED, Export.status != Status.CANCELING)
    .order_by(Export.deliver_by)
    .limit(AT_ONCE)
)


async def lanes_with_deadlines(session: AsyncSession) -> Sequence[LaneKey]:
    """Lanes in which an export may yet turn out to come too late."""
    return (await session.scalars(LANES)).all()


async def tell_of_risks(session: AsyncSession, lane: LaneKey, actor: str) -> int:
    """Tell once of each export of the lane that will be ready by its `deliver_by` with a chance of less than
    90 percent, or was not; returns of how many.

    Where there is no estimate, nothing is known before the deadline has passed.
    """
    views = await views_of(session, (await session.scalars(EARLIEST, {"lane": lane})).all())
    now = await database_now(session)
    late = dict[ExportId, Estimate | None]()
    estimates = await estimates_of(session, views)
    for view in views:
        estimate, due = estimates[view.export.id], view.export.deliver_by
        if due and (due < now or (estimate and estimate.finish_p90 > due)):
            late[view.export.id] = estimate
    return await _tell(session, late, now, actor) if late else 0


async def _tell(
    session: AsyncSession, late: dict[ExportId, Estimate | None], now: datetime, actor: str
) -> int:
    """Whatever has ended meanwhile is left alone."""
    exports = await session.scalars(
        select(Export)
        .where(Export.id.in_(late), IS_WATCHED)
        .order_by(Export.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    told = []
    for export in exports:
        export.at_risk_since, export.version = now, BigInt(export.version + 1)
        told.append(_event(export, late[export.id], actor))
        await notify_change(session, export.lane, export.run)
    await session.flush()
    if told:
        await record_all(session, told)
    return len(told)


def _event(export: Export, estimate: Estimate | None, actor: str) -> dict[str, Any]:
    data = {
        "status": export.status,
        "version": export.version,
        "deliver_by": export.deliver_by and export.deliver_by.isoformat(),
        "finish_p90": estimate and estimate.finish_p90.isoformat(),
    }
    return new_event(
        EventType.EXPORT_AT_RISK, actor=actor, export=export.id, run=export.run, lane=export.lane, data=data
    )
