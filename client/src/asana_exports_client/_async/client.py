"""Exports: ask for them, wait for them, have their data."""

import builtins
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import httpx

from asana_exports_client._address import address
from asana_exports_client._answers import decoded
from asana_exports_client._async.administration import (
    Attention,
    Clients,
    Credentials,
    Schedules,
    Webhooks,
    Workspaces,
)
from asana_exports_client._async.artifacts import Artifacts
from asana_exports_client._async.content import Content
from asana_exports_client._async.events import Events
from asana_exports_client._async.http import Http
from asana_exports_client._async.lanes import Lanes
from asana_exports_client._async.result import Result
from asana_exports_client._outcome import ENDED, artifact_of, succeeded
from asana_exports_client._part import Progress
from asana_exports_client._requests import (
    Options,
    Wanted,
    graph_body,
    id_of,
    resource_body,
    sent_once,
)
from asana_exports_client.models import (
    Artifact,
    Event,
    Export,
    ExportPage,
    Filters,
    Manifest,
    OutputFile,
    Plan,
    ResourceType,
    Timeline,
)

T = TypeVar("T")

# What the service waits for news at most, and how long it may be away before waiting is given up.
LONGEST_WAIT = 50
AWAY_SECONDS = 900.0


class AsyncClient:
    """A client of the service.

    `url` and `key` are taken from `ASANA_EXPORTS_URL` and `ASANA_EXPORTS_KEY` where they are not given;
    `ValueError` is raised where they are nowhere or cannot be such. What fails for the moment is tried again
    for `patience` seconds; `timeout` is the longest silence within one try.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, timeout: float = 30, patience: float = 60
    ) -> None:
        self._http = Http(*address(url, key), timeout=timeout, patience=patience)
        self._content = Content(self._http)
        self.artifacts = Artifacts(self._http)
        self.lanes = Lanes(self._http)
        self.events = Events(self._http)
        self.schedules = Schedules(self._http)
        self.webhooks = Webhooks(self._http)
        self.workspaces = Workspaces(self._http)
        self.clients = Clients(self._http)
        self.credentials = Credentials(self._http)
        self.attention = Attention(self._http)

    async def aclose(self) -> None:
        """End its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def export_resource(
        self,
        workspace: str,
        what: Wanted | Sequence[Wanted] = ResourceType.TASK,
        *,
        fields: Sequence[str] | None = None,
        filters: Filters | Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Export:
        """Ask for tasks, teams or messages of a workspace.

        `what` is a resource type, a `Task`, `Team` or `Message`, or several; `fields` and `filters` are for
        types that are only named. However often the request has to be sent, one export is made.
        """
        return await self._http.call(
            "POST /v1/exports/resource",
            Export,
            body=resource_body(workspace, what, fields, filters, options),
            headers=sent_once(options.get("idempotency_key")),
        )

    async def export_graph(self, workspace: str, parent: str, **options: Unpack[Options]) -> Export:
        """Ask for a goal, team, portfolio or project, by its gid, and what is below it."""
        return await self._http.call(
            "POST /v1/exports/graph",
            Export,
            body=graph_body(workspace, parent, options),
            headers=sent_once(options.get("idempotency_key")),
        )

    async def plan(
        self,
        workspace: str,
        what: Wanted | Sequence[Wanted] = ResourceType.TASK,
        *,
        parent: str | None = None,
        fields: Sequence[str] | None = None,
        filters: Filters | Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Plan:
        """What would become of an export if it were asked for now; with a `parent`, of a graph export."""
        if parent is None:
            body = resource_body(workspace, what, fields, filters, options)
        else:
            body = graph_body(workspace, parent, options)
        return await self._http.call("POST /v1/exports/plan", Plan, body=body)

    async def run(
        self,
        workspace: str,
        what: Wanted | Sequence[Wanted] = ResourceType.TASK,
        *,
        parent: str | None = None,
        fields: Sequence[str] | None = None,
        filters: Filters | Mapping[str, Any] | None = None,
        on_change: Callable[[Export], object] | None = None,
        timeout: float | None = None,
        **options: Unpack[Options],
    ) -> Result:
        """Ask for an export, with a `parent` for a graph export, and wait for its data.

        Raises as `export_resource`, `export_graph` and `wait` do.
        """
        if parent is None:
            export = await self.export_resource(workspace, what, fields=fields, filters=filters, **options)
        else:
            export = await self.export_graph(workspace, parent, **options)
        return self.result(await self.wait(export, on_change, timeout))

    def result(self, export: Export) -> Result:
        """The data of an export that has succeeded. Raises as `wait`, and `NotFinished` before its end."""
        return Result(succeeded(export), self._content, self.artifacts)

    async def get(self, export: Export | str) -> Export:
        """An export as it is now."""
        return await self._http.call("GET /v1/exports/{export_id}", Export, export_id=id_of(export))

    async def list(
        self,
        *,
        workspace: str | None = None,
        status: str | None = None,
        kind: str | None = None,
        label: str | None = None,
        created_after: datetime | None = None,
        schedule: str | None = None,
    ) -> AsyncIterator[Export]:
        """Your exports, the newest first, read page by page; `label` is `name:value`."""
        token: str | None = None
        while True:
            page = await self._http.call(
                "GET /v1/exports",
                ExportPage,
                query={
                    "workspace": workspace,
                    "status": status,
                    "kind": kind,
                    "label": label,
                    "created_after": created_after.isoformat() if created_after else None,
                    "schedule": schedule,
                    "page_size": 200,
                    "page_token": token,
                },
            )
            for export in page.items:
                yield export
            if (token := page.next_page_token) is None:
                return

    async def changes(self, export: Export | str, timeout: float | None = None) -> AsyncIterator[Export]:
        """The export as it is now and at each change, until it has ended.

        A service that restarts meanwhile is waited for, one that was never reached is not. Raises
        `TimeoutError` after so many seconds; the export goes on all the same.
        """
        since = time.monotonic()
        seen: dict[str, str] = {}
        while True:
            left = AWAY_SECONDS if timeout is None else max(since + timeout - time.monotonic(), 0)
            wait = min(LONGEST_WAIT, math.ceil(left)) if seen else 0
            answer = await self._http.send(
                "GET /v1/exports/{export_id}",
                headers=seen | ({"Prefer": f"wait={wait}"} if wait else {}),
                wait=wait,
                patience=min(left, AWAY_SECONDS if seen else self._http.patience),
                export_id=id_of(export),
            )
            if answer.status_code != httpx.codes.NOT_MODIFIED:
                now = decoded(answer, Export)
                seen = {"If-None-Match": answer.headers["ETag"]}
                yield now
                if now.status in ENDED:
                    return
            if timeout is not None and time.monotonic() >= since + timeout:
                raise TimeoutError(f"The export {id_of(export)} has not ended within {timeout} seconds.")

    async def wait(
        self,
        export: Export | str,
        on_change: Callable[[Export], object] | None = None,
        timeout: float | None = None,
    ) -> Export:
        """The export once it has succeeded; `on_change` is called with it now and at each change.

        Raises `ExportFailed` and `ExportCanceled`, and `TimeoutError` after so many seconds. Whatever ends
        the wait, the export goes on.
        """
        now: Export | None = None
        async for now in self.changes(export, timeout):
            if on_change:
                on_change(now)
        assert now is not None  # noqa: S101 - there is always a first one
        return succeeded(now)

    async def cancel(self, export: Export | str) -> Export:
        """Stop an export. Raises `problems.NotCancelable` once it has ended otherwise."""
        return await self._http.call("POST /v1/exports/{export_id}/cancel", Export, export_id=id_of(export))

    async def retry(self, export: Export | str, *, idempotency_key: str | None = None) -> Export:
        """Ask again for what an ended export was asked for. Raises `problems.NotRetryable` before its end."""
        return await self._http.call(
            "POST /v1/exports/{export_id}/retry",
            Export,
            headers=sent_once(idempotency_key),
            export_id=id_of(export),
        )

    async def timeline(self, export: Export | str) -> builtins.list[Event]:
        """What happened to an export, in order."""
        found = await self._http.call("GET /v1/exports/{export_id}/events", Timeline, export_id=id_of(export))
        return found.items

    async def manifest(self, export: Export | str) -> Manifest:
        """What there is to download. Raises `problems.NotReady` before the export has ended."""
        return await self._http.call(
            "GET /v1/exports/{export_id}/manifest", Manifest, export_id=id_of(export)
        )

    async def receipt(self, export: Export | str) -> str:
        """What was verified of the file, signed: a compact JWS, for `verify_receipt`."""
        answer = await self._http.send(
            "GET /v1/exports/{export_id}/receipt",
            headers={"Accept": "application/jose"},
            export_id=id_of(export),
        )
        return answer.text

    async def signing_keys(self) -> dict[str, Any]:
        """The public keys of receipts, as a JWK Set (RFC 7517)."""
        return await self._http.call("GET /.well-known/jwks.json", dict[str, Any])

    async def download(
        self,
        export: Export | Artifact | OutputFile | str,
        path: Path | str,
        progress: Progress | None = None,
    ) -> Path:
        """Write the file of an export, or another format of it, to a path.

        Until it is whole and verified it is named `….part`, and goes on from there when it is begun again.
        `progress` is called with the bytes that are there and those that there will be. Raises `Damaged`.
        """
        return await self._content.download(await self._file(export), Path(path), progress)

    @overload
    def records(self, export: Export | str, *, dedupe: bool = False) -> AsyncIterator[dict[str, Any]]: ...
    @overload
    def records(self, export: Export | str, type: type[T], *, dedupe: bool = False) -> AsyncIterator[T]: ...
    async def records(
        self,
        export: Export | str,
        type: Any = dict[str, Any],  # noqa: A002
        *,
        dedupe: bool = False,
    ) -> AsyncIterator[Any]:
        """The objects of an export, one after the other, at constant memory.

        Each is a dict or, where a `type` is given, of that: a TypedDict, a dataclass, a msgspec Struct. With
        `dedupe` each object comes once. Raises `Damaged` where the file turns out not to be the verified one,
        and `msgspec.ValidationError` where an object is not of the type.
        """
        file = await self._file(export)
        async for record in self._content.records(file, type, dedupe=dedupe):
            yield record

    async def _file(self, export: Export | Artifact | OutputFile | str) -> Artifact | OutputFile:
        if isinstance(export, Artifact | OutputFile):
            return export
        if isinstance(export, Export) and export.artifact:
            return export.artifact
        return artifact_of(await self.get(export))
