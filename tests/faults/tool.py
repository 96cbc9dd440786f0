"""A caller over HTTP, who keeps what he was promised."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import cycle
from typing import Any

import httpx
from sqlalchemy import select

from app.exports.models import Export
from app.sandbox.faults import Call
from tests.builders import unlike_others
from tests.processes import until
from tests.system.conftest import Service
from tests.system.exports import assert_verified, posts

Json = dict[str, Any]
FINAL = {"succeeded", "failed", "canceled"}


class Tool:
    """`accepted` are the ids of the exports for which it has got a 202."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.accepted: list[str] = []

    async def post(self, wanted: Json, kind: str = "resource", key: str | None = None) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        answer = await self.http.post(f"/v1/exports/{kind}", json=wanted, headers=headers)
        if answer.status_code == 202:
            self.accepted.append(answer.json()["id"])
        return answer

    async def ask(self, workspace: str) -> str:
        """The address of an export that was accepted."""
        return _address(await self.post(body(workspace)))

    async def ask_graph(self, workspace: str, parent: str) -> str:
        return _address(await self.post({"workspace": workspace, "parent": parent}, "graph"))

    async def keep_asking(self, enough: asyncio.Event, *workspaces: str) -> None:
        """For one after the other, whatever the answer is."""
        for workspace in cycle(workspaces):
            await self.post(body(workspace))
            await asyncio.sleep(0.1)
            if enough.is_set():
                return

    async def started(self, address: str) -> None:
        """Asana has a job of it, and that is known."""
        await self._until(address, lambda export: bool(export["started_at"]))

    async def ended(self, address: str) -> None:
        await self._until(address, lambda export: export["status"] in FINAL)

    async def _until(self, address: str, is_so: Callable[[Json], bool]) -> None:
        async def look() -> bool | None:
            return is_so((await self.http.get(address)).json()) or None

        await until(look, 30, lambda: f"news of {address}")


async def a_tool(service: Service, stack: AsyncExitStack, **env: str) -> Tool:
    """Of an API process of its own, whose settings are given."""
    http = httpx.AsyncClient(
        base_url=await service.api(**env).address(),
        headers={"Authorization": f"Bearer {service.tenants['1001'].key}"},
        trust_env=False,
        timeout=60,
    )
    return Tool(await stack.enter_async_context(http))


async def a_long_job(service: Service, tool: Tool) -> None:
    """Some seconds of ours; those that are started after it are short."""
    service.sandbox.patch(run_seconds=(300, 300))
    await tool.started(await tool.ask("1001"))
    service.sandbox.patch(run_seconds=(20, 20))


async def all_is_done(service: Service, tool: Tool) -> None:
    """Everything that was accepted has its file, at the price of one job for each run.

    So has what was accepted though the caller was not told.
    """
    async with service.sessions() as session:
        exports = (await session.scalars(select(Export))).all()
    assert {*tool.accepted} <= {export.id for export in exports}, "an export was lost"
    for export in await service.finished(*exports, within=60):
        await assert_verified(service, export)
    jobs = Counter([*posts(service), *posts(service, Call.GRAPH)])
    assert jobs == {201: len({export.run for export in exports})}, jobs
    busiest = max(workspace.max_in_progress for workspace in service.sandbox.stats().workspaces.values())
    assert busiest == 1, busiest


def body(workspace: str) -> Json:
    """A request that shares no run."""
    items = [{"resource_type": "task"} | unlike_others("task")]
    return {"workspace": workspace, "export_request_parameters": items}


def unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "database-unavailable"
    assert int(answer.headers["Retry-After"]) > 0


def _address(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    return answer.headers["Location"]
