"""No request body is read beyond a limit, whatever it says of its own length."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem_response
from app.problems import Code, Problem


class BodyLimitMiddleware:
    """Answers 413 to a body of more than so many bytes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        problem = Problem(Code.BODY_TOO_LARGE, f"The body has more than {self._most} bytes.")
        length = Headers(scope=scope).get("Content-Length", "0")
        if length.isdigit() and int(length) > self._most:
            await problem_response(problem, path=scope["path"])(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise HTTPException(413, problem.detail)
            return message

        await self._app(scope, counted, send)
