"""A workspace's queue and its one slot at Asana."""

from asana_exports_client._async.http import Http
from asana_exports_client.models import Lane, Reason


class Lanes:
    """By the workspace's gid; `kind` tells which, where resource and graph exports have one each."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def get(self, workspace: str, *, kind: str | None = None) -> Lane:
        """What a workspace's exports are waiting for."""
        return await self._http.call(
            "GET /v1/workspaces/{gid}/lane", Lane, query={"kind": kind}, gid=workspace
        )

    async def pause(self, workspace: str, note: str | None = None, *, kind: str | None = None) -> Lane:
        """Start nothing from now on."""
        return await self._http.call(
            "POST /v1/workspaces/{gid}/lane/pause",
            Lane,
            query={"kind": kind},
            body=Reason(note=note),
            gid=workspace,
        )

    async def drain(self, workspace: str, note: str | None = None, *, kind: str | None = None) -> Lane:
        """Accept nothing from now on."""
        return await self._http.call(
            "POST /v1/workspaces/{gid}/lane/drain",
            Lane,
            query={"kind": kind},
            body=Reason(note=note),
            gid=workspace,
        )

    async def resume(self, workspace: str, note: str | None = None, *, kind: str | None = None) -> Lane:
        """End both."""
        return await self._http.call(
            "POST /v1/workspaces/{gid}/lane/resume",
            Lane,
            query={"kind": kind},
            body=Reason(note=note),
            gid=workspace,
        )
