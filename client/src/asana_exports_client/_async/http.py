"""Requests to the service, sent again where that is safe and may help."""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
from tenacity import AsyncRetrying, retry_if_exception, stop_before_delay

from asana_exports_client._answers import decoded, error_of, is_passing, pause, was_not_done
from asana_exports_client.errors import Unreachable

T = TypeVar("T")
Query = Mapping[str, Any]

USER_AGENT = (
    f"asana-exports-client/{version('asana-exports-client')} "
    f"python/{sys.version_info.major}.{sys.version_info.minor}"
)


class Http:
    """One service, by one key. `patience` is for how many seconds a request is tried again."""

    def __init__(self, url: str, key: str, *, timeout: float, patience: float) -> None:
        headers = {"Authorization": f"Bearer {key}", "User-Agent": USER_AGENT, "Accept": "application/json"}
        self._client = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout)
        self._timeout = timeout
        self.patience = patience

    async def aclose(self) -> None:
        await self._client.aclose()

    async def call(self, operation: str, answer: type[T], **request: Any) -> T:
        """The answer to an operation of the API, such as `GET /v1/exports/{export_id}`; see `send`."""
        return decoded(await self.send(operation, **request), answer)

    async def send(
        self,
        operation: str,
        *,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0,
        patience: float | None = None,
        once: bool = False,
        **place: str,
    ) -> httpx.Response:
        """Do an operation; `place` has what its path names.

        The answer may take `wait` seconds longer than others. `once` is for what must not be done twice: it
        is sent again only where it certainly was not done. Raises `ProblemError`, `Unreachable` and
        `UnexpectedAnswer`.
        """
        method, _, template = operation.partition(" ")
        path = template.format(**{name: quote(value, safe="") for name, value in place.items()})
        request = self._request(method, path, query, body, headers, wait)
        return await self._tried(request, patience=patience, once=once)

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """What a URL of the service gives, to be read as it comes.

        Where the service sends to its store, httpx follows and leaves the key behind. Raises as `send` does,
        and `httpx.TransportError` when it breaks off while it is read.
        """
        # Of the URL only what the service may say: never another host.
        path = httpx.URL(url).raw_path.decode()
        request = self._request("GET", path, query, None, headers, 0)
        response = await self._tried(request, patience=patience, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    def _request(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: Any,
        headers: Mapping[str, str] | None,
        wait: float,
    ) -> httpx.Request:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        sent = {**(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
        return self._client.build_request(
            method,
            path,
            params=given or None,
            content=None if body is None else msgspec.json.encode(body),
            headers=sent,
            timeout=httpx.Timeout(self._timeout, read=self._timeout + wait),
        )

    async def _tried(
        self, request: httpx.Request, *, patience: float | None, once: bool = False, stream: bool = False
    ) -> httpx.Response:
        trying = AsyncRetrying(
            retry=retry_if_exception(was_not_done if once else is_passing),
            wait=pause,
            stop=stop_before_delay(self.patience if patience is None else patience),
            reraise=True,
        )
        return await trying(self._answered, request, stream=stream)

    async def _answered(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        try:
            response = await self._client.send(request, stream=stream, follow_redirects=stream)
            if response.is_success or response.status_code == httpx.codes.NOT_MODIFIED:
                return response
            await response.aread()
        except httpx.TransportError as error:
            raise Unreachable(
                f"{type(error).__name__} at {request.url.copy_with(query=None)}: {error}"
            ) from error
        raise error_of(response)
