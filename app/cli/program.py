"""How a command begins and ends: its settings, its database, what it tells of what went wrong."""

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop
from pydantic import ValidationError
from rich.console import Console
from sqlalchemy.exc import OperationalError

from app.access.vault import VaultError
from app.artifacts.store import StoreFailed
from app.database.embedded import EmbeddedPostgresError
from app.database.migrate import is_behind
from app.database.session import Database, UnsupportedServer, open_database
from app.demo import DemoFailed
from app.exports.restoring import StillServed
from app.local import PartFailed
from app.logs import set_up_logs
from app.problems import ProblemError
from app.settings import Settings
from app.traces import TracesMissing

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Stop(Exception):
    """Nothing to be done until a person changes something; the message says what."""


EXPECTED = (
    Stop,
    StillServed,
    TracesMissing,
    PartFailed,
    DemoFailed,
    EmbeddedPostgresError,
    UnsupportedServer,
    VaultError,
    StoreFailed,
    ProblemError,
)
T = TypeVar("T")


def read_settings(**given: Any) -> Settings:
    """Those of the environment, by which it logs from then on. Ends the command where they have faults."""
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SystemExit(faults_of("the settings have faults", error)) from None
    set_up_logs(settings)
    return settings


def faults_of(what: str, error: ValidationError) -> str:
    """Without the values, which may be secrets at the wrong place."""
    faults = [f"  {'.'.join(map(str, each['loc'])) or 'together'}: {each['msg']}" for each in error.errors()]
    return "\n".join([f"asana-exports: {what}:", *faults])


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do it; what a person can mend is told without a traceback."""
    try:
        return uvloop.run(work)
    except EXPECTED as error:
        raise SystemExit(f"asana-exports: {error}") from None
    except OSError as error:
        raise SystemExit(f"asana-exports: {error.strerror or error}") from None
    except OperationalError as error:
        raise SystemExit(f"asana-exports: the database does not answer: {error.orig}") from None


@asynccontextmanager
async def migrated_database(settings: Settings, *, patience: float | None = None) -> AsyncIterator[Database]:
    """The database, if its schema is that of this version."""
    async with open_database(settings, patience=patience) as database:
        async with database.sessions() as session:
            if await is_behind(session):
                raise Stop("The database has an older version's schema. Run `asana-exports migrate`.")
        yield database
