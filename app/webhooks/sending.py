"""One try: a request to the receiver, and what came of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

import httpx

from app.clock import Clock
from app.retry_after import retry_after
from app.webhooks.targets import TargetRefused

USER_AGENT = f"asana-exports/{version('asana-exports')}"
# What an answer says is not kept; so much of it is taken in, so that who sends it sees it accepted.
MOST_ANSWER_BYTES = 4096
MOST_SAID = 300
SLOW_DOWN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Attempt:
    """What came of a try: the answer's status, or why there was none; and for how long to leave it alone."""

    status: int | None
    error: str | None
    duration_ms: int
    retry_after: float | None = None

    @property
    def accepted(self) -> bool:
        return self.error is None and self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        return self.status == httpx.codes.GONE


async def send(
    http: httpx.AsyncClient, clock: Clock, url: str, headers: Mapping[str, str], body: str, *, within: float
) -> Attempt:
    """Post the body. Whatever goes wrong is told, not raised; nothing takes longer than `within` seconds."""
    began = clock.monotonic()
    status, error, pause = None, None, None
    fixed = {"Content-Type": "application/json", "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    try:
        async with (
            asyncio.timeout(within),
            http.stream("POST", url, content=body, headers={**fixed, **headers}) as response,
        ):
            status = response.status_code
            if status in SLOW_DOWN:
                pause = retry_after(response.headers)
            await _take_in(response)
    except TimeoutError:
        error = f"there was no whole answer within {within:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, TargetRefused) as failure:
        error = f"{type(failure).__name__}: {failure}"[:MOST_SAID]
    return Attempt(status, error, round((clock.monotonic() - began) * 1000), pause)


async def _take_in(response: httpx.Response) -> None:
    taken = 0
    async for part in response.aiter_raw():
        taken += len(part)
        if taken >= MOST_ANSWER_BYTES:
            return
