"""What must not meet again after the database was put back to an earlier moment.

The store, Asana, and whoever reads the feed have gone on from there. Numbers that were dealt since then are
known to them, and would be dealt a second time, to others: so counting goes on far above.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.log import Cause, Event, EventType, record
from app.exports.garbage import owned
from app.exports.models import Export
from app.lanes.lease import live_workers

# More than can have been dealt between a backup and its return.
FAR = 10_000_000

JUMPS = (
    # A reader whose cursor is ahead of all that is left misses nothing of what comes.
    text("UPDATE event_feed SET last_position = last_position + :far"),
    # Files are named by the number of the holding in which they were made.
    text("""
        UPDATE runs SET archive_fence = archive_fence + :far, archiver = NULL WHERE finished_at IS NULL
    """),
    text("UPDATE refetches SET fence = fence + :far, worker = NULL"),
    text("UPDATE conversions SET fence = fence + :far, worker = NULL"),
    text("UPDATE lanes SET fence = fence + :far, holder = NULL, next_attempt_at = now()"),
)
BURY_WORKERS = text("DELETE FROM workers")
UNKNOWN = text("""
    SELECT found.key
    FROM unnest(CAST(:keys AS text[]), CAST(:owners AS text[])) AS found (key, owner)
    WHERE NOT EXISTS (SELECT FROM runs WHERE runs.id = found.owner)
      AND NOT EXISTS (SELECT FROM artifacts WHERE artifacts.id = found.owner)
    ORDER BY found.key
""")


class StillServed(Exception):
    """Workers are at work on what was put back."""

    def __init__(self, workers: int) -> None:
        super().__init__(
            f"Workers that live: {workers}. Stop them, and the API; a killed one is over with its lease."
        )


@dataclass(frozen=True)
class Restored:
    """The latest moment that the database knows of, and how many exports are not done in it."""

    as_of: datetime | None
    unfinished: int


async def go_on(session: AsyncSession, cause: Cause) -> Restored:
    """Make a database that was put back fit to be served, in the caller's transaction; safe to repeat.

    Raises `StillServed`.
    """
    if workers := await live_workers(session):
        raise StillServed(workers)
    as_of = await session.scalar(select(func.max(Event.created_at)))
    unfinished = await session.scalar(select(func.count()).where(Export.finished_at.is_(None))) or 0
    for jump in JUMPS:
        await session.execute(jump, {"far": FAR})
    await session.execute(BURY_WORKERS)
    facts = {"as_of": as_of and as_of.isoformat(), "unfinished": unfinished}
    await record(session, EventType.SERVICE_RESTORED, actor=cause.actor, data=facts)
    return Restored(as_of, unfinished)


async def unknown(session: AsyncSession, keys: Sequence[str]) -> list[str]:
    """Those of the keys that are of files of runs and artifacts which are not known here."""
    ours = owned(keys)
    values = {"keys": [key for key, _ in ours], "owners": [owner for _, owner in ours]}
    return list(await session.scalars(UNKNOWN, values))
