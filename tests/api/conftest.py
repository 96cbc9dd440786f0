"""The API as it is served: a real HTTP server on a free port, on a database of its own, without workers."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientSpec, GrantSpec, create_client
from app.access.models import Priority, Scope
from app.access.vault import Vault
from app.api.services import Services, open_services
from app.cli.serving import ApiServer, listening
from app.clock import Clock, SystemClock
from app.events.log import Cause
from app.main import create_app
from app.sandbox.control import SandboxControl
from app.settings import Settings
from tests.builders import Tenant, a_tenant, unlike_others
from tests.history import check_history
from tests.leaks import leaks

TASKS: dict[str, Any] = {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}


def other_tasks() -> dict[str, Any]:
    """A request that shares no run."""
    return {
        "workspace": "1001",
        "export_request_parameters": [{"resource_type": "task"} | unlike_others("task")],
    }


TOOL = (Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ)
ANYTHING = GrantSpec(highest_priority=Priority.URGENT)
PROJECT: dict[str, Any] = {"workspace": "1001", "parent": "10012001"}


def code_of(refused: httpx.Response) -> str:
    """The code of a problem; in Asana's form, it begins the help of each entry."""
    body = refused.json()
    if "code" in body:
        return str(body["code"])
    (code,) = {error["help"].partition(":")[0] for error in body["errors"]}
    return str(code)


NIGHTLY: dict[str, Any] = {"name": "nightly", "cron": "0 3 * * *", "export": TASKS}


@dataclass
class Api:
    """A served API, and callers of it."""

    url: str
    settings: Settings
    sessions: async_sessionmaker[AsyncSession]
    stack: AsyncExitStack
    tenant: Tenant
    services: Services
    callers: int = field(default=0)

    async def anybody(self, **headers: str) -> httpx.AsyncClient:
        """A caller without a key."""
        client = httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            trust_env=False,
            timeout=120,
            event_hooks={"response": [_tells_no_secret]},
        )
        return await self.stack.enter_async_context(client)

    async def with_key(self, key: str) -> httpx.AsyncClient:
        return await self.anybody(Authorization=f"Bearer {key}")

    async def caller(self, *scopes: Scope, grants: Sequence[GrantSpec] = (ANYTHING,)) -> httpx.AsyncClient:
        """A new client that may do so much; by default, what a tool needs."""
        self.callers += 1
        spec = ClientSpec(name=f"caller {self.callers}", scopes=scopes or TOOL, grants=tuple(grants))
        async with self.sessions.begin() as session:
            _, key = await create_client(session, spec, Cause("test"))
        return await self.with_key(key)

    async def admin(self) -> httpx.AsyncClient:
        return await self.with_key(self.tenant.key)


async def _tells_no_secret(response: httpx.Response) -> None:
    """But for a new API key or secret of a webhook, which is shown this once."""
    if "json" not in response.headers.get("Content-Type", ""):
        return
    body = (await response.aread()).decode(errors="replace")
    new = {response.json().get(name) for name in ("key", "secret")} if response.status_code == 201 else set()
    assert leaks(body) <= new, response.url
    assert not leaks(str(response.headers))


@asynccontextmanager
async def served(
    settings: Settings, clock: Clock | None = None, *, grace: int = 20
) -> AsyncIterator[tuple[str, Services]]:
    """The address of the application while it is served, and what it works with; `grace` are the seconds that
    requests have when it ends."""
    with listening("127.0.0.1", 0) as listener:
        async with open_services(settings, clock) as services:
            config = uvicorn.Config(
                create_app(services), log_config=None, access_log=False, timeout_graceful_shutdown=grace
            )
            server = ApiServer(config)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}", services
            finally:
                server.should_exit = True
                await serving


@pytest.fixture
def one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other one begins while the test runs: the limiter counts by minutes of the wall clock."""
    now = time.time()
    monkeypatch.setattr("limits.aio.storage.memory.time", SimpleNamespace(time=lambda: now))


@pytest.fixture
def clock() -> Clock:
    """By which the API under test measures for how long its callers wait."""
    return SystemClock()


@pytest.fixture
async def api(
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession],
    vault: Vault,
    sandbox: SandboxControl,
    clock: Clock,
) -> AsyncIterator[Api]:
    """The workspace 1001 is registered; `tenant` is a client with every right."""
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    told = settings.model_copy(
        update={
            "asana_url": sandbox.api_url,
            "webhook_allow": ("public", "127.0.0.0/8"),
            # For as long a transaction may stand still, as a busy machine lets it.
            "lease_seconds": 120.0,
        }
    )
    async with served(told, clock) as (url, services), AsyncExitStack() as stack:
        yield Api(url, told, sessions, stack, tenant, services)
    await check_history(sessions)


@pytest.fixture
async def caller(api: Api) -> httpx.AsyncClient:
    """An ordinary tool: it asks for exports and fetches files."""
    return await api.caller()


@pytest.fixture
async def admin(api: Api) -> httpx.AsyncClient:
    return await api.admin()
