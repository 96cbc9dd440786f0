"""What the stories of a worker have at hand."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Concatenate, ParamSpec, TypeVar

import httpx
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.artifacts.store import LocalStore
from app.clock import Clock
from app.settings import Settings
from app.worker.lease import Lease
from app.worker.upstream import Upstream

P = ParamSpec("P")
T = TypeVar("T")
# What may be wrong with the database or the way to it; `is_passing` tells these from faults of our own.
UNAVAILABLE = (DBAPIError, PoolTimeout)

log = structlog.get_logger()


@dataclass(frozen=True)
class Context:
    """The worker's tools: settings, time, chance, database, Asana, store and its own lease."""

    settings: Settings
    clock: Clock
    random: Random
    sessions: async_sessionmaker[AsyncSession]
    upstream: Upstream
    downloads: httpx.AsyncClient
    store: LocalStore
    lease: Lease

    async def write(
        self,
        step: Callable[Concatenate[AsyncSession, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a step in one transaction, again and again while the database is away.

        What a lane knows must not be lost with a connection. It ends by success, by the fence (`LaneLost`),
        or by the process cancelling the lane when its lease is over. Steps bear being repeated, for a
        commit may have worked though its answer was lost.
        """
        tries = 0
        while True:
            try:
                async with self.sessions.begin() as session:
                    return await step(session, *args, **kwargs)
            except UNAVAILABLE as error:
                if not is_passing(error):
                    raise
                log.warning("database.unavailable", error=first_line(error), tries=tries)
            await self.clock.sleep(self.backoff(tries, least=0.1, most=2.0))
            tries += 1

    def backoff(self, tries: int, *, least: float | None = None, most: float | None = None) -> float:
        """Seconds to wait after so many tries: doubling up to a limit, less up to half of it by chance."""
        first = least or self.settings.backoff_min_seconds
        longest = most or self.settings.backoff_max_seconds
        return min(longest, first * 2.0 ** min(tries, 30)) * self.random.uniform(0.5, 1.0)


def is_passing(error: DBAPIError | PoolTimeout) -> bool:
    """Whether the database may answer the same statement another time.

    True for lost connections, a busy pool, and for classes 08, 25P03, 40, 53, 55 and 57 of PostgreSQL's error
    codes (connection, idle in transaction, rollback, resources, lock, intervention by the operator).
    """
    if isinstance(error, PoolTimeout):
        return True
    code = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or code is None:
        return True
    return code[:2] in {"08", "40", "53", "55", "57"} or code == "25P03"


def first_line(error: Exception) -> str:
    """An error for the log, without the statement and its parameters."""
    said = str(getattr(error, "orig", None) or error)
    return f"{type(error).__name__}: {said}".splitlines()[0]
