"""Transactions that outlast a database that is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.clock import Clock
from app.worker.backoff import Backoff

P = ParamSpec("P")
T = TypeVar("T")

# What may be wrong with the database or the way to it; `is_passing` tells these from faults of our own.
UNAVAILABLE = (DBAPIError, PoolTimeout, TimeoutError)
READ_ONLY, IDLE_IN_TRANSACTION = "25006", "25P03"

log = structlog.get_logger()


class Transactions:
    """Runs steps, each in a transaction of its own, none for longer than so many seconds."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], clock: Clock, backoff: Backoff, longest: float
    ) -> None:
        self._sessions = sessions
        self._clock = clock
        self._backoff = backoff
        self._longest = longest

    async def __call__(
        self, step: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a step again and again while the database is away.

        What a lane knows must not be lost with a connection. It ends by success, by the fence (`LaneLost`),
        or by the process cancelling the lane when its lease is over. Steps bear being repeated, for a
        commit may have worked though its answer was lost.
        """
        tries = 0
        while True:
            try:
                async with asyncio.timeout(self._longest), self._sessions.begin() as session:
                    return await step(session, *args, **kwargs)
            except UNAVAILABLE as error:
                if not is_passing(error):
                    raise
                log.warning("database.unavailable", error=first_line(error), tries=tries)
            await self._clock.sleep(self._backoff(tries))
            tries += 1


def is_passing(error: Exception) -> bool:
    """Whether the database may answer the same statement another time.

    True for lost connections, time-outs and a busy pool; for classes 08, 40, 53, 55 and 57 of PostgreSQL's
    error codes (connection, rollback, resources, lock, intervention by the operator); for a server that is
    read-only, as in the middle of a failover; and for a transaction that idled too long.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, UNAVAILABLE)
    code = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or code is None:
        return True
    return code[:2] in {"08", "40", "53", "55", "57"} or code in {READ_ONLY, IDLE_IN_TRANSACTION}


def first_line(error: Exception) -> str:
    """An error for the log, without the statement and its parameters."""
    said = str(getattr(error, "orig", None) or error)
    return f"{type(error).__name__}: {said}".splitlines()[0]
