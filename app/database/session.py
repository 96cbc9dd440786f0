"""Connections to the database, whichever it is."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg.conninfo import make_conninfo
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.conninfo import conninfo
from app.database.connection import Connection
from app.database.embedded import EmbeddedPostgres
from app.settings import Settings

OLDEST_SERVER = 15
CONNECT_SECONDS = 10
ELECT = text("SELECT pg_try_advisory_xact_lock(:duty)")
# So that a connection whose other end has vanished is noticed in some seconds (libpq's parameters).
LIFE_SIGNS = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


class UnsupportedServer(Exception):
    """The database server is too old."""


@dataclass(frozen=True)
class Database:
    """The engine with its pool, sessions on it, and what a connection for LISTEN of one's own needs.

    `reads` are sessions of the same pool without a transaction, for what is asked at every request: each
    statement for itself, without the round trips of BEGIN and COMMIT. `vitals` have a connection to
    themselves, for signs of life: a lease must not run out because the pool is busy.
    """

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    reads: async_sessionmaker[AsyncSession]
    vitals: async_sessionmaker[AsyncSession]
    listen_conninfo: str
    _single: AsyncEngine

    async def reconnect(self) -> None:
        """Give up all connections: those that are in use end with their use, the others now."""
        await self.engine.dispose()
        await self._single.dispose()


@asynccontextmanager
async def open_database(settings: Settings, *, patience: float | None = None) -> AsyncIterator[Database]:
    """Connect to the database of the settings, or to the data folder's own server, started if need be.

    With `patience`, a connection on which an answer takes longer than so many seconds is given up.
    Raises `UnsupportedServer` below PostgreSQL 15, `EmbeddedPostgresError` when there is no own server to be
    had, and SQLAlchemy's `OperationalError` when the database does not answer.
    """
    if settings.database_url:
        async with _connected(settings, settings.database_url, patience) as database:
            yield database
        return
    server = EmbeddedPostgres(settings.data_dir)
    await asyncio.to_thread(server.start)
    try:
        async with _connected(settings, server.url, patience) as database:
            yield database
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def _connected(settings: Settings, url: str, patience: float | None) -> AsyncIterator[Database]:
    engine = _engine(settings, url, settings.database_pool_size, patience)
    # Soon enough for another beat on another connection.
    single = _engine(settings, url, 1, patience and min(patience, settings.lease_seconds / 2))
    try:
        async with engine.connect() as connection:
            _check_version(int(await connection.scalar(text("SHOW server_version_num"))))
        yield Database(
            engine,
            async_sessionmaker(engine, expire_on_commit=False),
            async_sessionmaker(engine.execution_options(isolation_level="AUTOCOMMIT")),
            async_sessionmaker(single),
            make_conninfo(conninfo(settings.listen_database_url or url), **LIFE_SIGNS),
            single,
        )
    finally:
        await engine.dispose()
        await single.dispose()


def _engine(settings: Settings, url: str, connections: int, patience: float | None) -> AsyncEngine:
    options: dict[str, Any] = {
        "connect_timeout": math.ceil(patience or CONNECT_SECONDS),
        "application_name": "asana-exports",
        **LIFE_SIGNS,
    }
    if settings.listen_database_url:
        # A pooler that deals out connections by transaction knows neither of these.
        options["prepare_threshold"] = None
    else:
        # A process that is stopped in the middle of a transaction must not keep its row locks for ever.
        longest = int(settings.lease_seconds * 1000)
        # Nor shall a backend wait for locks for somebody who has hung up.
        settled = f"idle_in_transaction_session_timeout={longest} -c client_connection_check_interval=1000"
        options["options"] = f"-c {settled} -c timezone=UTC"

    async def connect() -> Connection:
        connection = await Connection.connect(conninfo(url), **options)
        connection.patience = patience
        return connection

    return create_async_engine(
        "postgresql+psycopg://",
        async_creator=connect,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
        # Parameters may be secrets, and would stand in every error and its traceback.
        hide_parameters=True,
        # A crowd is woken at once and served in turn; who waits for longer is told to come back.
        pool_timeout=30,
    )


async def elected(session: AsyncSession, duty: int) -> bool:
    """Whether the caller's transaction is the one that has the duty of this number, until it ends."""
    return bool(await session.scalar(ELECT, {"duty": duty}))


def _check_version(number: int) -> None:
    if number < OLDEST_SERVER * 10_000:
        raise UnsupportedServer(f"PostgreSQL {OLDEST_SERVER} or newer is needed, this is {number // 10_000}")
