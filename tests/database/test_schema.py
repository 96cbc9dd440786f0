"""The migrations and the models say the same, and the database holds what it promises."""

import asyncio
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from procrastinate.schema import SchemaManager
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from app.database.migrate import alembic_config, at_head, migrate
from app.database.session import Database, open_database
from app.events.log import EventType, record
from app.settings import Settings
from tests.postgres import copied_database


def _check(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.check(config)


async def test_the_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    async with database.engine.begin() as connection:
        await connection.run_sync(_check)


async def test_migrating_again_and_at_the_same_time_changes_nothing(database: Database) -> None:
    await asyncio.gather(*(migrate(database.engine) for _ in range(3)))
    async with database.sessions() as session:
        assert await at_head(session)


async def test_processes_that_start_together_migrate_one_after_the_other(
    settings: Settings, postgres_url: str
) -> None:
    with copied_database(postgres_url, "template1") as url:
        async with open_database(settings.model_copy(update={"database_url": url})) as database:
            await asyncio.gather(*(migrate(database.engine) for _ in range(3)))
            async with database.sessions() as session:
                assert await at_head(session)


async def test_a_schema_that_is_behind_is_noticed(database: Database) -> None:
    async with database.sessions.begin() as session:
        await session.execute(text("DELETE FROM alembic_version"))
        assert not await at_head(session)


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
    def down(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    async with database.engine.begin() as connection:
        await connection.run_sync(down)
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
