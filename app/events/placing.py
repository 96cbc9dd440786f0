"""The order of the feed: events are numbered when they are committed, not when they are written.

`seq` is dealt at the moment of writing. A transaction that commits late makes an event appear below others
that were read long ago, and a reader who remembers a `seq` would never see it. So whoever reads first places
what is committed by then. One at a time does so, behind the lock of the feed's row: positions become visible
in order and without holes, and nothing ever appears below one that was shown.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, exists, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt
from app.events.log import Event

AT_ONCE = 5_000


class EventFeed(Base):
    """How far the feed has come: the last position given, and the last one that was forgotten.

    Exports that had ended at `forgotten_until` may have no events any more.
    """

    __tablename__ = "event_feed"

    is_one: Mapped[bool] = mapped_column(primary_key=True, server_default=true())
    last_position: Mapped[BigInt] = mapped_column(server_default=text("0"))
    forgotten_position: Mapped[BigInt] = mapped_column(server_default=text("0"))
    forgotten_until: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("is_one", "one_row"),)


LOCK = text("SELECT FROM event_feed FOR UPDATE")
UNPLACED = select(exists().where(Event.position.is_(None)))
# Events of an export, a schedule or a webhook endpoint are for its client, others about a workspace for those
# who have a grant for it.
PLACE = text("""
    WITH unplaced AS (
        SELECT next.*, row_number() OVER (ORDER BY seq) AS step
        FROM (
            SELECT seq, export, run, lane, data ->> 'schedule' AS schedule,
                CASE WHEN type LIKE 'webhook.%' THEN data ->> 'client' END AS told
            FROM events WHERE position IS NULL ORDER BY seq LIMIT :most) AS next
    ), known AS (
        SELECT seq, step, coalesce(exports.client, schedules.client, told) AS owner,
            coalesce(exports.workspace, lanes.workspace, runs.workspace, schedules.workspace) AS workspace
        FROM unplaced
        LEFT JOIN exports ON exports.id = unplaced.export
        LEFT JOIN lanes ON lanes.key = unplaced.lane
        LEFT JOIN runs ON runs.id = unplaced.run
        LEFT JOIN schedules ON schedules.id = unplaced.schedule
    ), placed AS (
        UPDATE events SET position = last_position + step, workspace = known.workspace,
            audience = coalesce(known.owner, known.workspace)
        FROM known, event_feed WHERE events.seq = known.seq
        RETURNING events.seq
    )
    UPDATE event_feed SET last_position = last_position + (SELECT count(*) FROM placed)
    RETURNING (SELECT count(*) FROM placed)
""")


async def any_unplaced(session: AsyncSession) -> bool:
    """Whether an event was committed that has no place yet."""
    return bool(await session.scalar(UNPLACED))


async def place_events(session: AsyncSession, most: int = AT_ONCE) -> bool:
    """Give the oldest of them their places, in the order of writing; tells whether there may be more.

    What is found is looked for in a second statement, after the lock: in one, it would be what was committed
    when the lock began to be waited for, and could have been placed meanwhile.
    """
    await session.execute(LOCK)
    placed: int = (await session.execute(PLACE, {"most": most})).scalar_one()
    return placed == most
