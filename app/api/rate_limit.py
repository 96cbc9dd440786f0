"""How fast and how much a client may ask, and what its answers say of that.

The header fields are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` names each limit
with its quota `q`, in a window of `w` seconds if it has one, and `RateLimit` tells what remains of it as `r`,
and in how many seconds `t` it is whole again.
"""

import math
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.models import Client
from app.api.headers import with_headers
from app.problems import Code, ProblemError

WINDOW_SECONDS = 60


@dataclass(frozen=True)
class Allowance:
    """A limit of a client and what remains of it; `window` and `resets_in` are seconds."""

    name: str
    quota: int
    remaining: int
    window: int | None = None
    resets_in: int | None = None

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.quota}' + (f";w={self.window}" if self.window else "")

    @property
    def state(self) -> str:
        resets = f";t={self.resets_in}" if self.resets_in is not None else ""
        return f'"{self.name}";r={max(0, self.remaining)}{resets}'


_told: ContextVar[list[Allowance]] = ContextVar("allowances")


class RequestRate:
    """Requests of each client in a sliding minute, as this process sees them."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._seen = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def count(self, client: Client) -> None:
        """Count one more. Raises `ProblemError` `too-many-requests`."""
        allowed = await self._seen.hit(self._limit, client.id)
        stats = await self._seen.get_window_stats(self._limit, client.id)
        resets_in = max(1, math.ceil(stats.reset_time - time.time()))
        left = Allowance("requests", self._limit.amount, stats.remaining, WINDOW_SECONDS, resets_in)
        tell([left])
        if not allowed:
            detail = f"You may send {self._limit.amount} requests in a minute."
            raise ProblemError(Code.TOO_MANY_REQUESTS, detail, retry_after=resets_in)


def tell(allowances: Iterable[Allowance]) -> None:
    """Let the answer to the present request speak of these limits too."""
    _told.get().extend(allowances)


class RateLimitMiddleware:
    """Writes into each answer what was told of limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowances: list[Allowance] = []
        token = _told.set(allowances)

        def add(headers: MutableHeaders) -> None:
            if allowances:
                headers["RateLimit-Policy"] = ", ".join(each.policy for each in allowances)
                headers["RateLimit"] = ", ".join(each.state for each in allowances)

        try:
            await self._app(scope, receive, with_headers(send, add))
        finally:
            _told.reset(token)
