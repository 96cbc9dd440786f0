"""What is between a client and the service, and may lose, cut and change what passes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx

from tests.servers import Request, Server, answer, serving

Change = Callable[[Request, httpx.Response, int], httpx.Response | int | None]
NOT_PASSED_ON = {"host", "content-length", "connection", "transfer-encoding"}


@asynccontextmanager
async def relay(url: str, change: Change) -> AsyncIterator[Server]:
    """Passes requests on. `change` sees each with its answer and its number from 0 on, and tells what comes
    of the answer: another one, only so many bytes of its body, or nothing at all."""

    async def passed(request: Request, writer: asyncio.StreamWriter) -> None:
        number = len(server.requests) - 1
        headers = {name: each for name, each in request.headers.items() if name not in NOT_PASSED_ON}
        async with httpx.AsyncClient(trust_env=False, timeout=120) as http:
            told = await http.request(
                request.method, f"{url}{request.path}", headers=headers, content=request.body
            )
        outcome = change(request, told, number)
        if outcome is None:
            writer.transport.abort()
            return
        shown = told if isinstance(outcome, int) else outcome
        body = shown.content[:outcome] if isinstance(outcome, int) else shown.content
        kept = {
            name.replace("-", "_"): each for name, each in shown.headers.items() if name not in NOT_PASSED_ON
        }
        writer.write(answer(shown.status_code, body, length=len(shown.content), **kept))

    async with serving(passed) as server:
        yield server


def unchanged(_: Request, told: httpx.Response, __: int) -> httpx.Response:
    return told
