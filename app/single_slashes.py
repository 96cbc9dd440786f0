"""A host that ends with a slash, as clients of Asana's API are given it."""

import re

from starlette.types import ASGIApp, Receive, Scope, Send


class SingleSlashes:
    """Read `//` in a path below `prefix` as `/`: such a client sends that, and Asana takes it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(self._prefix):
            scope["path"] = re.sub("/{2,}", "/", scope["path"])
        await self._app(scope, receive, send)
