"""How long the database is waited for, and how long it waits for us."""

import pytest
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database.session import open_database
from app.settings import Settings


async def test_an_answer_that_takes_too_long_is_not_waited_for(settings: Settings) -> None:
    async with open_database(settings, patience=3) as database, database.sessions() as session:
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT pg_sleep(10)"))


async def test_locks_of_a_process_that_stands_still_are_let_go(
    settings: Settings, sessions: async_sessionmaker[AsyncSession]
) -> None:
    lock = text("SELECT pg_advisory_xact_lock(4711)")
    short = settings.model_copy(update={"lease_seconds": 1.0})
    async with open_database(short) as database, database.sessions() as frozen:
        await frozen.execute(lock)
        async with sessions.begin() as session:
            await session.execute(text("SET LOCAL lock_timeout = '15s'"))
            await session.execute(lock)
        with pytest.raises(DBAPIError):
            await frozen.execute(lock)


def test_a_lease_must_outlast_a_lost_beat() -> None:
    with pytest.raises(ValidationError, match="BEAT_SECONDS"):
        Settings(lease_seconds=4, beat_seconds=3)
