"""What became of background tasks that come around: counted in the database, for all workers together."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Double, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt


class ChoreTally(Base):
    """How often a chore was done and failed, in how many seconds altogether, and when it last ended how."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    succeeded: Mapped[BigInt] = mapped_column(server_default=text("0"))
    failed: Mapped[BigInt] = mapped_column(server_default=text("0"))
    seconds: Mapped[float] = mapped_column(Double, server_default=text("0"))
    last_succeeded_at: Mapped[datetime | None]
    last_failed_at: Mapped[datetime | None]
    last_error: Mapped[str | None]


@dataclass(frozen=True)
class Waiting:
    """Jobs of a task that are due and not yet begun, and for how many seconds the oldest has been."""

    task: str
    jobs: int
    oldest_seconds: float


TALLY = text("""
    INSERT INTO chores AS known
        (name, succeeded, failed, seconds, last_succeeded_at, last_failed_at, last_error)
    SELECT :name, (error IS NULL)::int, (error IS NOT NULL)::int, :seconds,
        CASE WHEN error IS NULL THEN clock_timestamp() END,
        CASE WHEN error IS NOT NULL THEN clock_timestamp() END, error
    FROM (VALUES (CAST(:error AS text))) AS ended(error)
    ON CONFLICT (name) DO UPDATE SET
        succeeded = known.succeeded + excluded.succeeded,
        failed = known.failed + excluded.failed,
        seconds = known.seconds + excluded.seconds,
        last_succeeded_at = coalesce(excluded.last_succeeded_at, known.last_succeeded_at),
        last_failed_at = coalesce(excluded.last_failed_at, known.last_failed_at),
        last_error = coalesce(excluded.last_error, known.last_error)
""")
WAITING = text("""
    SELECT task_name AS task, count(*) AS jobs,
        extract(epoch FROM now() - min(coalesce(scheduled_at, deferred.at, now())))::float AS oldest_seconds
    FROM procrastinate_jobs AS jobs
    LEFT JOIN LATERAL (
        SELECT at FROM procrastinate_events WHERE job_id = jobs.id AND type = 'deferred' LIMIT 1
    ) AS deferred ON true
    WHERE status = 'todo' AND coalesce(scheduled_at, now()) <= now()
    GROUP BY task_name ORDER BY task_name
""")


async def tally(session: AsyncSession, name: str, seconds: float, error: str | None) -> None:
    """Count that a chore was done, or has failed by an error."""
    await session.execute(TALLY, {"name": name, "seconds": seconds, "error": error})


async def tallies(session: AsyncSession) -> Sequence[ChoreTally]:
    """Of all chores, by name."""
    return (await session.scalars(select(ChoreTally).order_by(ChoreTally.name))).all()


async def waiting_jobs(session: AsyncSession) -> list[Waiting]:
    """What waits for a worker to have time, by task."""
    return [Waiting(**row._mapping) for row in await session.execute(WAITING)]
