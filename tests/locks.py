"""Knowing that somebody waits for a lock in the database: the moment in which a race is on."""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from tests.processes import until

WAITING = text(
    "SELECT true FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def until_somebody_waits(sessions: async_sessionmaker[AsyncSession]) -> None:
    async def look() -> bool | None:
        async with sessions() as session:
            found: bool | None = await session.scalar(WAITING)
        return found

    await until(look, 20, lambda: "somebody who waits for a lock")


async def until_it_waits(sessions: async_sessionmaker[AsyncSession], task: asyncio.Task[object]) -> None:
    """Should it wait for nothing, until it is done."""
    waiting = asyncio.create_task(until_somebody_waits(sessions))
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
