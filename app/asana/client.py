"""Calls of Asana's API, with their failures told apart. Knows nothing of what they are made for."""

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, SecretStr

from app.asana.errors import (
    AsanaError,
    Forbidden,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    PlanRequired,
    RateLimited,
    Refused,
    Unavailable,
)
from app.asana.schemas import Job, Placed, User, Workspace
from app.metrics import UPSTREAM_RESPONSES
from app.retry_after import retry_after
from app.traces import span

USER_AGENT = f"asana-exports/{version('asana-exports')}"
# Asana documents Retry-After on every 429; its examples say 30 seconds.
DEFAULT_RETRY_AFTER = 30.0
# What a graph export may start from.
PARENTS = ("projects", "portfolios", "teams", "goals")
EXPORTS = ("new_resource_export", "new_graph_export")
JOB_FIELDS = ",".join(
    ["status"]
    + [f"{export}.{name}" for export in EXPORTS for name in ("created_at", "completed_at", "download_url")]
)
# As many as Asana lets one token have in progress (its documentation, "Concurrent request limits"): reads
# apart from starts, which so wait for no look. They are counted by process, whatever the token. Those beyond
# them wait here: httpx's pool gives up on who waits, and looks at all of them again at each answer.
READS_AT_ONCE, STARTS_AT_ONCE = 50, 15
# Its answers are some hundred bytes; what is longer is none of them.
MOST_ANSWER_BYTES = 1 << 20
MOST_SAID = 500
OF_THE_PACKING = {"content-encoding", "content-length", "transfer-encoding"}
# What a connection that the other side has closed fails by.
CUT_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
# These fail before a byte of the request has left.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)

T = TypeVar("T", bound=BaseModel)
Ready = Callable[[], None]


def always() -> None:
    """Ready whenever there is a place."""


class AsanaClient:
    """Asana's API at a base URL, over a client whose time-outs the caller has set.

    An answer has to be whole within `longest` seconds.
    """

    def __init__(self, http: httpx.AsyncClient, base_url: str, longest: float = 120) -> None:
        self._http = http
        self._longest = longest
        self._base_url = base_url.rstrip("/")
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)

    async def create_resource_export(
        self,
        token: SecretStr,
        workspace: str,
        export_request_parameters: list[dict[str, Any]],
        ready: Ready = always,
    ) -> Job:
        """Start a resource export. Raises `OutcomeUnknown` when it may have started without our knowing.

        `ready` is asked right before the request leaves, and may keep it from that by raising.
        """
        body = {"workspace": workspace, "export_request_parameters": export_request_parameters}
        return await self._call(Job, token, "POST", "/exports/resource", body=body, ready=ready)

    async def create_graph_export(self, token: SecretStr, parent: str, ready: Ready = always) -> Job:
        """Start a graph export, or get the job of the one in progress for the same parent and user."""
        return await self._call(Job, token, "POST", "/exports/graph", body={"parent": parent}, ready=ready)

    async def get_job(self, token: SecretStr, gid: str) -> Job:
        """The job as it is now, with a fresh download URL when it has succeeded."""
        return await self._call(Job, token, "GET", f"/jobs/{gid}", fields=JOB_FIELDS)

    async def me(self, token: SecretStr) -> User:
        """Whose token this is."""
        return await self._call(User, token, "GET", "/users/me", fields="name")

    async def workspace(self, token: SecretStr, gid: str) -> Workspace:
        """A workspace that the token opens."""
        return await self._call(Workspace, token, "GET", f"/workspaces/{gid}", fields="name")

    async def workspace_of(self, token: SecretStr, parent: str) -> str | None:
        """The workspace that a project, portfolio, team or goal is in; None when the token sees none of them.

        A gid does not tell what it names, so that each kind is asked for in turn.
        """
        for path in PARENTS:
            try:
                found = await self._call(
                    Placed, token, "GET", f"/{path}/{parent}", fields="workspace,organization"
                )
            except (NotFound, Forbidden, Refused):
                continue
            if place := found.workspace or found.organization:
                return place.gid
        return None

    async def _call(
        self,
        answer: type[T],
        token: SecretStr,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        fields: str | None = None,
        ready: Ready = always,
    ) -> T:
        lost = OutcomeUnknown if method == "POST" else Unavailable
        with span(f"{method} /{path.split('/')[1]}", calls=True, path=path):
            try:
                response = await self._send(
                    method,
                    self._base_url + path,
                    ready,
                    json={"data": body} if body else None,
                    params={"opt_fields": fields} if fields else None,
                    headers={"Authorization": f"Bearer {token.get_secret_value()}", "User-Agent": USER_AGENT},
                    follow_redirects=False,
                )
            except NOT_SENT as error:
                raise Unavailable(f"{method} {path} did not reach Asana: {_described(error)}") from None
            except httpx.HTTPError as error:
                raise lost(f"{method} {path} got no answer: {_described(error)}") from None
            if not response.is_success:
                raise _error(response, lost)
            try:
                return answer.model_validate(response.json()["data"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise lost(
                    f"{method} {path} got an answer that cannot be read", status=response.status_code
                ) from None

    async def _send(self, method: str, url: str, ready: Ready, **what: Any) -> httpx.Response:
        async with self._reads if method == "GET" else self._starts:
            ready()
            try:
                return await self._send_once(method, url, **what)
            except CUT_OFF:
                # A connection kept open may be closed by the other side in the moment in which it is used
                # again; what changes nothing is then sent once more (RFC 9112, section 9.3.1).
                if method != "GET":
                    raise
                return await self._send_once(method, url, **what)

    async def _send_once(self, method: str, url: str, **what: Any) -> httpx.Response:
        """The whole answer, unpacked, as far as it may be one of Asana's."""
        body, code = b"", "none"
        try:
            async with (
                asyncio.timeout(self._longest),
                self._http.stream(method, url, **what) as response,
            ):
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MOST_ANSWER_BYTES:
                        raise httpx.DecodingError(f"the answer is longer than {MOST_ANSWER_BYTES} bytes")
                code = str(response.status_code)
        except TimeoutError:
            raise httpx.ReadTimeout(f"the answer takes longer than {self._longest} seconds") from None
        finally:
            UPSTREAM_RESPONSES.labels(code).inc()
        headers = {name: value for name, value in response.headers.items() if name not in OF_THE_PACKING}
        return httpx.Response(response.status_code, headers=headers, content=body, request=response.request)


def _described(error: httpx.HTTPError) -> str:
    # Without the request, whose headers hold the token.
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _error(response: httpx.Response, lost: type[AsanaError]) -> AsanaError:
    status, said = response.status_code, _said(response)
    match status:
        case 401:
            return NotAuthorized(said, status=status)
        case 402 | 451:
            return PlanRequired(said, status=status)
        case 403:
            return Forbidden(said, status=status)
        case 404 if response.request.method == "GET":
            return NotFound(said, status=status)
        case 429:
            return RateLimited(said, retry_after=retry_after(response.headers) or DEFAULT_RETRY_AFTER)
        case 408 | 425:
            return lost(said, status=status)
        case _ if 400 <= status < 500:
            return Refused(said, status=status)
        case _:
            return lost(said, status=status)


def _said(response: httpx.Response) -> str:
    """Asana's messages, with the phrase its support asks for; a piece of the body where it is not Asana's."""
    try:
        errors = response.json()["errors"]
        words = [error.get("message", "") for error in errors]
        words += [f"(phrase: {error['phrase']})" for error in errors if error.get("phrase")]
        return " ".join(words)[:MOST_SAID]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return response.text[:MOST_SAID].strip() or response.reason_phrase
