"""How long requests take, and how they are answered."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import REQUESTS

NO_ROUTE = "none"


class RequestTimeMiddleware:
    """Counts each answer as it begins, by the pattern of its route: there is no end of addresses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", NO_ROUTE)
                REQUESTS.labels(route, message["status"]).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, counted)
