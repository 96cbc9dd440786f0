"""Connections are given up, one answer after the other, while the process is about to end."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.headers import with_headers
from app.api.services import Services


class ClosingMiddleware:
    """Lets each answer of a process that was told to stop be the last of its connection (RFC 9112, section
    9.6): a caller who sends on a connection in the moment in which it is closed never learns what became of
    the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        services: Services = scope["app"].state.services

        def close(headers: MutableHeaders) -> None:
            if services.stopping.is_set():
                headers["Connection"] = "close"

        await self._app(scope, receive, with_headers(send, close))
