"""Each request has an id, the caller's own or one of ours, in its answer and in every line it logs."""

import re
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send
from uuid_utils import uuid7

from app.api.headers import with_headers

HEADER = "X-Request-Id"
SANE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """Of the request that is being answered."""
    return _request_id.get()


class RequestIdMiddleware:
    """Takes `X-Request-Id` from the caller if it is sane, else makes one; sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        name = given if SANE.fullmatch(given) else f"req_{uuid7().hex}"
        token = _request_id.set(name)

        def add(headers: MutableHeaders) -> None:
            headers[HEADER] = name

        try:
            with structlog.contextvars.bound_contextvars(request_id=name):
                await self._app(scope, receive, with_headers(send, add))
        finally:
            _request_id.reset(token)
