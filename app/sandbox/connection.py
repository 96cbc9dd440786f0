"""Connections that break for real: an application cannot close its socket, so the server lends it out."""

import asyncio
from typing import cast

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_TRANSPORT = "sandbox.transport"


class LendingProtocol(H11Protocol):
    """uvicorn's HTTP protocol, with the transport put into the scope of every request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app = _lending(self.app, transport)


def _lending(app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
    async def lend(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[_TRANSPORT] = transport
        await app(scope, receive, send)

    return lend


def _transport(scope: Scope) -> asyncio.Transport:
    transport = scope.get("extensions", {}).get(_TRANSPORT)
    if transport is None:  # inside a test client there is no connection to break
        raise ConnectionAbortedError("the connection is dropped here")
    # No instance of it under every loop, but alike.
    return cast("asyncio.Transport", transport)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Dropped(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _transport(scope).abort()
        await _gone(receive)


class CutShort(Response):
    """An answer whose connection is closed after a fraction of the body."""

    def __init__(self, whole: Response, fraction: float) -> None:
        super().__init__(status_code=whole.status_code)
        self._whole = whole
        self._fraction = fraction

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = 0

        async def send_some(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = int(int(dict(message["headers"])[b"content-length"]) * self._fraction)
                await send(message)
                return
            part = message.get("body", b"")[:left]
            left -= len(part)
            if part:
                await send({**message, "body": part, "more_body": True})
            if not left:
                raise _Cut

        try:
            await self._whole(scope, receive, send_some)
        except* _Cut:
            _transport(scope).close()
            await _gone(receive)


class _Cut(Exception):
    """As much of the body is out as should be."""
