"""Bringing the schema to this version's step, and telling whether it lacks something."""

import asyncio
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

# Any number that only migrations use: whoever comes second waits, and finds nothing left to do.
MIGRATION_LOCK = 0x61657864
# All who want a table stand behind a migration that waits for it, so it never waits for long, but often.
LOCK_SECONDS, TRIES, PAUSE_SECONDS = 2, 60, 3.0
LOCK_NOT_AVAILABLE = "55P03"

log = structlog.get_logger()


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, wherever the package `migrations` is installed; for what needs a database,
    with a connection to it.
    """
    spec = find_spec("migrations")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package migrations is not installed")
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


async def migrate(engine: AsyncEngine) -> None:
    """Upgrade to this version's schema, in one transaction; safe to run twice, by several at once, and while
    the service works. The schema of a newer version is left as it is.

    Raises `DBAPIError` when transactions of others have kept it from a table for minutes.
    """
    tries = 1
    while not await _migrated(engine, is_last=tries == TRIES):
        log.warning("migrate.waits_for_a_table", tries=tries)
        await asyncio.sleep(PAUSE_SECONDS)
        tries += 1


async def _migrated(engine: AsyncEngine, *, is_last: bool) -> bool:
    """One try, which may meet somebody who keeps a table."""
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            await connection.run_sync(_upgrade)
    except DBAPIError as error:
        if is_last or getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        return False
    return True


def _upgrade(connection: Connection) -> None:
    if _lacks_steps(connection):
        command.upgrade(alembic_config(connection), "head")


async def is_behind(session: AsyncSession) -> bool:
    """Whether the schema lacks what this code needs. A newer one lacks nothing: each version leaves what the
    one before it works with.
    """
    return await session.run_sync(lambda sync: _lacks_steps(sync.connection()))


def _lacks_steps(connection: Connection) -> bool:
    """Its step is an earlier one of ours, or it has none; one that we do not know is of a newer version."""
    _, *earlier = _steps()
    return MigrationContext.configure(connection).get_current_revision() in {None, *earlier}


@cache
def _steps() -> Sequence[str]:
    """Ours, the newest first."""
    return [step.revision for step in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
