"""A deploy, and one taken back: each part is replaced in turn while callers call, and nobody notices."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from app.exports.models import Export
from tests.faults.next_version import next_version
from tests.faults.tool import FINAL, Json, body
from tests.processes import COMMAND, Process, said, until
from tests.system.conftest import THIS_VERSION, WORKSPACES, Service
from tests.system.exports import assert_verified, posts

# Nothing is taken from a worker that has not handed it over, and nobody finds work by looking around.
LASTING = {"LEASE_SECONDS": "600", "BEAT_SECONDS": "5", "IDLE_POLL_SECONDS": "600"}
LOOK_SECONDS = 0.1
# So long that the balancer has looked again, however busy the machine is.
DRAIN = {"DRAIN_SECONDS": "10"}


class Balancer:
    """What stands before API processes: it asks each whether it is ready, and sends requests to those."""

    def __init__(self, key: str, stack: AsyncExitStack) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}
        self._stack = stack
        self._all: dict[str, httpx.AsyncClient] = {}
        self._ready: list[httpx.AsyncClient] = []
        self._turn = count()

    async def add(self, api: Process) -> None:
        address = await api.address()
        http = httpx.AsyncClient(base_url=address, headers=self._headers, trust_env=False, timeout=120)
        self._all[address] = await self._stack.enter_async_context(http)
        await until(lambda: self._is_ready(address), 30, lambda: f"{address} to be ready")

    async def forget(self, api: Process) -> None:
        del self._all[await api.address()]

    async def look(self) -> None:
        while True:
            ready = [(http, await self._says_ready(http)) for http in [*self._all.values()]]
            self._ready = [http for http, is_ready in ready if is_ready]
            await asyncio.sleep(LOOK_SECONDS)

    async def send(self, method: str, path: str, **how: Any) -> httpx.Response:
        http = self._ready[next(self._turn) % len(self._ready)]
        return await http.request(method, path, **how)

    async def _is_ready(self, address: str) -> bool | None:
        return self._all[address] in self._ready or None

    @staticmethod
    async def _says_ready(http: httpx.AsyncClient) -> bool:
        with suppress(httpx.TransportError):
            return (await http.get("/readyz", headers={"Connection": "close"})).status_code == 200
        return False


class Parts:
    """Two API processes and two workers."""

    def __init__(self, service: Service, balancer: Balancer) -> None:
        self._service = service
        self._balancer = balancer
        self._apis: list[Process] = []
        self._workers: list[Process] = []

    async def start(self, version: Mapping[str, str]) -> None:
        for _ in range(2):
            await self._add_worker(version)
            await self._add_api(version)

    async def migrate(self, version: Mapping[str, str]) -> None:
        env = {**self._service.env(), **version}
        said_at_end = await said(COMMAND, "migrate", cwd=self._service.folder, env=env)
        assert said_at_end[0] == 0, said_at_end

    async def replace(self, version: Mapping[str, str]) -> None:
        """One after the other; each new one is there before an old one is told to go."""
        for worker in [*self._workers]:
            await self._add_worker(version)
            await self._stop(self._workers, worker)
        for api in [*self._apis]:
            await self._add_api(version)
            await self._stop(self._apis, api)
            await self._balancer.forget(api)

    async def _add_worker(self, version: Mapping[str, str]) -> None:
        worker = self._service.worker(version, **LASTING)
        self._workers.append(worker)
        assert ("next" in await worker.said("worker.started")) == bool(version)

    async def _add_api(self, version: Mapping[str, str]) -> None:
        api = self._service.api(version, **DRAIN)
        self._apis.append(api)
        await self._balancer.add(api)

    async def _stop(self, parts: list[Process], part: Process) -> None:
        parts.remove(part)
        part.signal(signal.SIGTERM)
        assert await part.ended(30) == 0, part.output()


class Callers:
    """Each asks for an export, waits for it and takes its file, again and again. Whatever is not answered as
    it should be ends it.
    """

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self.accepted: list[str] = []
        self.taken = 0

    async def call(self, workspace: str) -> None:
        sent = await self._answered(202, "POST", "/v1/exports/resource", json=body(workspace))
        self.accepted.append(sent.json()["id"])
        path = sent.headers["Location"]
        while (export := await self._wait_for(path))["status"] not in FINAL:
            pass
        await self._answered(200, "GET", f"/v1/artifacts/{export['artifact']['id']}/content")
        self.taken += 1

    async def keep_calling(self, workspace: str, enough: asyncio.Event) -> None:
        while not enough.is_set():
            await self.call(workspace)

    async def have_taken(self, more: int) -> None:
        enough = self.taken + more

        async def look() -> bool | None:
            return self.taken >= enough or None

        await until(look, 60, lambda: f"{enough} files, of which there are {self.taken}")

    async def _wait_for(self, path: str) -> Json:
        answer = await self._answered(200, "GET", path, headers={"Prefer": "wait=20"})
        export: Json = answer.json()
        return export

    async def _answered(self, status: int, method: str, path: str, **how: Any) -> httpx.Response:
        answer = await self._balancer.send(method, path, **how)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer


@asynccontextmanager
async def calling(balancer: Balancer) -> AsyncIterator[Callers]:
    """Callers of all workspaces at once, who are content until the end."""
    callers, enough = Callers(balancer), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for workspace in WORKSPACES:
            group.create_task(callers.keep_calling(workspace, enough))
        yield callers
        enough.set()


@pytest.fixture
async def balancer(service: Service) -> AsyncIterator[Balancer]:
    async with AsyncExitStack() as stack:
        balancer = Balancer(service.tenants["1001"].key, stack)
        looking = asyncio.create_task(balancer.look())
        yield balancer
        looking.cancel()


async def test_a_deploy_and_its_way_back_are_noticed_by_nobody(
    service: Service, balancer: Balancer, tmp_path: Path
) -> None:
    service.sandbox.patch(run_seconds=(120, 240))
    parts, new = Parts(service, balancer), next_version(tmp_path / "next")
    await parts.start(THIS_VERSION)
    async with calling(balancer) as callers:
        await callers.have_taken(5)
        await parts.migrate(new)
        await callers.have_taken(5)
        await parts.replace(new)
        await callers.have_taken(5)
        await parts.migrate(THIS_VERSION)
        await parts.replace(THIS_VERSION)
        await callers.have_taken(5)
    async with service.sessions() as session:
        exports = (await session.scalars(select(Export))).all()
        makers = set(await session.scalars(text("SELECT DISTINCT made_by FROM runs")))
    assert {export.id for export in exports} == {*callers.accepted}
    for export in await service.finished(*exports):
        await assert_verified(service, export)
    assert posts(service) == [201] * len(exports)
    assert makers == {"this version", "the next version"}
