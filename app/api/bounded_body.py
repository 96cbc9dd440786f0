"""No request body is read beyond a size, or waited for beyond a time, whatever it says of itself."""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.problems import Code, Problem


class BoundedBodyMiddleware:
    """Answers 413 to a body of more than `most` bytes, and 408 to one not whole after `within` seconds.

    A connection closed after 408 costs a slow caller the request, and nobody else anything.
    """

    def __init__(self, app: ASGIApp, most: int, within: float) -> None:
        self._app = app
        self._most = most
        self._within = within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = Problem(Code.BODY_TOO_LARGE, f"The body has more than {self._most} bytes.")
        length = Headers(scope=scope).get("Content-Length", "0")
        if length.isdigit() and int(length) > self._most:
            await problem_response(too_large, path=scope["path"])(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + self._within
        seen, whole = 0, False

        async def bounded() -> Message:
            nonlocal seen, whole
            try:
                async with asyncio.timeout_at(None if whole else until):
                    message = await receive()
            except TimeoutError:
                detail = f"The body was not whole after {self._within:g} seconds."
                raise HTTPException(408, detail, headers={"Connection": "close"}) from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self._most:
                raise HTTPException(413, too_large.detail)
            return message

        await self._app(scope, bounded, send)
