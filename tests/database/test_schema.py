"""The migrations and the models say the same, and the database holds what it promises."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app.database.migrate import alembic_config, is_behind, migrate
from app.database.session import Database, open_database
from app.events.log import EventType, record
from app.settings import Settings
from tests.postgres import copied_database

READ_CLIENTS = text("SELECT count(*) FROM clients")


def _check(connection: Connection) -> None:
    command.check(alembic_config(connection))


def _down_to(connection: Connection, step: str) -> None:
    command.downgrade(alembic_config(connection), step)


@pytest.fixture
async def reader(database: Database) -> AsyncIterator[AsyncSession]:
    """Somebody who keeps a table that the next step of the schema wants."""
    async with database.engine.begin() as connection:
        await connection.run_sync(_down_to, "0012")
    async with database.sessions() as session:
        await session.execute(READ_CLIENTS)
        yield session


async def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(_check)


async def test_migrating_again_and_at_the_same_time_changes_nothing(database: Database) -> None:
    await asyncio.gather(*(migrate(database.engine) for _ in range(3)))
    async with database.sessions() as session:
        assert not await is_behind(session)


async def test_processes_that_start_together_migrate_one_after_the_other(
    settings: Settings, postgres_url: str
) -> None:
    with copied_database(postgres_url, "template1") as url:
        async with open_database(settings.model_copy(update={"database_url": url})) as database:
            await asyncio.gather(*(migrate(database.engine) for _ in range(3)))
            async with database.sessions() as session:
                assert not await is_behind(session)


async def test_a_step_that_meets_somebody_at_a_table_waits_in_short_turns(
    database: Database, reader: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between them everybody else gets to the table."""
    monkeypatch.setattr("app.database.migrate.LOCK_SECONDS", 1)
    monkeypatch.setattr("app.database.migrate.PAUSE_SECONDS", 0.1)
    with capture_logs() as logs:
        migrating = asyncio.create_task(migrate(database.engine))
        async with asyncio.timeout(60):
            while len(logs) < 2:
                async with database.sessions() as session:
                    await session.execute(READ_CLIENTS)
                await asyncio.sleep(0.05)
    assert {line["event"] for line in logs} == {"migrate.waits_for_a_table"}
    assert await is_behind(reader)
    await reader.rollback()
    await migrating
    async with database.sessions() as session:
        assert not await is_behind(session)


async def test_a_table_that_is_kept_for_too_long_is_said_so(
    database: Database, reader: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.database.migrate.LOCK_SECONDS", 1)
    monkeypatch.setattr("app.database.migrate.TRIES", 1)
    with pytest.raises(DBAPIError, match="lock timeout"):
        await migrate(database.engine)
    assert reader.in_transaction()


async def test_a_schema_of_a_newer_version_is_left_as_it_is(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = 'newer'"))
    await migrate(database.engine)
    async with database.sessions() as session:
        assert not await is_behind(session)
        assert await session.scalar(text("SELECT version_num FROM alembic_version")) == "newer"


async def test_a_schema_that_is_behind_is_noticed(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM alembic_version"))
        assert await is_behind(session)


async def test_an_event_never_changes(database: Database) -> None:
    async with database.sessions.begin() as session:
        await record(session, EventType.CLIENT_CREATED, actor="test")
    with pytest.raises(DBAPIError, match="never change"):
        async with database.sessions.begin() as session:
            await session.execute(text("UPDATE events SET actor = 'somebody else'"))


async def test_an_event_is_placed_once_and_keeps_what_it_says(database: Database) -> None:
    async with database.sessions.begin() as session:
        await record(session, EventType.CLIENT_CREATED, actor="test")
    for change, refused in (
        ("position = 7, actor = 'somebody else'", True),
        ("workspace = '1001'", True),
        ("position = 7, workspace = '1001', audience = '1001'", False),
        ("position = 8", True),
        ("position = NULL", True),
    ):
        with pytest.raises(DBAPIError, match="never change") if refused else nullcontext():
            async with database.sessions.begin() as session:
                await session.execute(text(f"UPDATE events SET {change}"))


async def test_the_migrations_can_be_taken_back(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(_down_to, "base")
        left = await connection.scalar(
            text(
                "SELECT count(*) FROM pg_tables "
                "WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        )
    assert left == 0


def test_every_step_of_procrastinates_schema_has_its_migration() -> None:
    """A version of it that brings another needs a migration of ours that takes it."""
    scripts = ScriptDirectory.from_config(alembic_config()).walk_revisions()
    taken = [step for script in scripts for step in getattr(script.module, "STEPS", ())]
    there = Path(SchemaManager.get_migrations_path()).glob("*.sql")
    assert sorted(taken) == sorted(step.stem for step in there)
