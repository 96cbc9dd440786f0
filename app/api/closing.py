"""Connections are given up, one answer after the other, while the process is about to end."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and services.stopping.is_set():
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, receive, closing)
