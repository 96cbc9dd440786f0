"""HEAD wherever there is GET (RFC 9110, section 9.3.2)."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

IS_HEAD = "asana_exports.is_head"


class HeadMiddleware:
    """Answers HEAD with what GET would say, without content; `IS_HEAD` in the scope lets an endpoint know."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        as_get = {**scope, "method": "GET", IS_HEAD: True}

        async def without_content(message: Message) -> None:
            # For those outside, who know the request by its own scope.
            scope["route"] = as_get.get("route")
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(as_get, receive, without_content)
