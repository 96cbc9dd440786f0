"""Background tasks, enqueued in the transaction that wants them done."""

import json
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

DEFER = text("""
    SELECT procrastinate_defer_jobs_v1(ARRAY[
        ROW(:task, :task, 0, NULL, NULL, CAST(:args AS jsonb), CAST(:at AS timestamptz))
        ::procrastinate_job_to_defer_v1])
""")


async def defer(session: AsyncSession, task: str, /, *, at: datetime | None = None, **args: object) -> None:
    """Have a task done once the caller's transaction is committed, or not before a time by PostgreSQL's
    clock."""
    await session.execute(DEFER, {"task": task, "args": json.dumps(args), "at": at})
