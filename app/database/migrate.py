"""Bringing the schema to the newest step, and telling whether it is there."""

from importlib.util import find_spec
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

# Any number that only migrations use: whoever comes second waits, and finds nothing left to do.
MIGRATION_LOCK = 0x61657864


def alembic_config() -> Config:
    """Alembic's configuration, wherever the package `migrations` is installed."""
    spec = find_spec("migrations")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package migrations is not installed")
    config = Config()
    config.set_main_option("script_location", str(Path(spec.origin).parent).replace("%", "%%"))
    return config


async def migrate(engine: AsyncEngine) -> None:
    """Upgrade to the newest schema, in one transaction; safe to run twice, and by several at once."""
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def at_head(session: AsyncSession) -> bool:
    """Whether the schema is the one this code was written for."""
    newest = ScriptDirectory.from_config(alembic_config()).get_current_head()
    return newest == await session.run_sync(
        lambda sync: MigrationContext.configure(sync.connection()).get_current_revision()
    )
