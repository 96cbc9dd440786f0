"""The official SDK takes this service for Asana."""

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import urllib3
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

import tests
from app.access.clients import ClientSpec, create_client
from app.access.vault import Vault
from app.events.log import Cause
from app.exports.models import Export
from app.settings import Settings
from tests.api.conftest import TASKS, TOOL, Api, served
from tests.api.test_asana import export_of
from tests.api.test_limits import succeeded
from tests.builders import a_tenant
from tests.sandbox.official import OfficialClient, asana
from tests.servers import Request, answer, serving

ApiException: Any = asana.rest.ApiException
RESOURCE: dict[str, Any] = {"data": TASKS}
GRAPH: dict[str, Any] = {"data": {"parent": "10012001"}}
FILE = gzip.compress(b'{"gid":"1","resource_type":"task"}\n')
PAGE = (Path(tests.__file__).parents[1] / "docs" / "from-the-asana-sdk.md").read_text()


async def a_key(sessions: async_sessionmaker[AsyncSession]) -> str:
    async with sessions.begin() as session:
        return (await create_client(session, ClientSpec(name="sdk", scopes=TOOL), Cause("test")))[1]


@pytest.fixture
async def sdk(api: Api) -> OfficialClient:
    return OfficialClient(f"{api.url}/api/1.0", await a_key(api.sessions))


async def test_a_graph_export_runs_from_start_to_file(api: Api, sdk: OfficialClient) -> None:
    job = await asyncio.to_thread(sdk.exports.create_graph_export, GRAPH)
    assert (job["status"], job["resource_subtype"]) == ("not_started", "graph_export_request")
    again = await asyncio.to_thread(sdk.exports.create_graph_export, GRAPH)
    assert again["gid"] == job["gid"]
    await succeeded(api, await export_of(api, job), FILE)
    opts = {"opt_fields": "status,new_graph_export.download_url", "opt_pretty": True}
    done = await asyncio.to_thread(sdk.jobs.get_job, job["gid"], opts)
    assert set(done) == {"gid", "status", "new_graph_export"}
    url = done["new_graph_export"]["download_url"]
    fetched = await asyncio.to_thread(urllib3.request, "GET", url)
    assert (done["status"], fetched.data) == ("succeeded", FILE)


async def test_a_resource_export_runs_from_start_to_file(api: Api, sdk: OfficialClient) -> None:
    after = datetime(2026, 5, 1, tzinfo=UTC)
    item = {"resource_type": "task", "filters": {"modified_at.after": after}, "fields": ["modified_at"]}
    body = {"data": {"workspace": "1001", "export_request_parameters": [item]}}
    job = await asyncio.to_thread(sdk.exports.create_resource_export, body)
    assert job["new_resource_export"]["completed_at"] is None
    await succeeded(api, await export_of(api, job), FILE)
    done = await asyncio.to_thread(sdk.jobs.get_job, job["gid"], {})
    assert done["new_resource_export"]["download_url"]


async def test_async_requests_and_full_payloads_have_the_envelope(sdk: OfficialClient) -> None:
    start = sdk.exports.create_resource_export
    threads = [start(RESOURCE, async_req=True) for _ in range(5)]
    started = [await asyncio.to_thread(thread.get) for thread in threads]
    assert len({answer["data"]["gid"] for answer in started}) == 5
    full = await asyncio.to_thread(start, RESOURCE, full_payload=True)
    assert full["data"]["resource_type"] == "job"
    payload, status, headers = await asyncio.to_thread(start, RESOURCE, _return_http_data_only=False)
    assert (status, headers["Location"]) == (201, f"/api/1.0/jobs/{payload['data']['gid']}")


async def test_a_key_makes_one_job_as_written(sdk: OfficialClient) -> None:
    found = re.search(r"<!-- key -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    names = {"exports": sdk.exports, "data": TASKS}
    first, second = [await asyncio.to_thread(eval, found[1], names) for _ in range(2)]
    assert first["gid"] == second["gid"]


async def test_a_list_of_fields_written_the_python_way_is_answered(sdk: OfficialClient) -> None:
    job = await asyncio.to_thread(sdk.exports.create_graph_export, GRAPH)
    opts = {"opt_fields": ["status", "resource_subtype"]}
    shown = await asyncio.to_thread(sdk.jobs.get_job, job["gid"], opts)
    assert set(shown) == {"gid", "status", "resource_subtype"}


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (lambda sdk: sdk.exports.create_graph_export({}), 400, "data: Missing input"),
        (lambda sdk: sdk.exports.create_resource_export({"data": {"workspace": "1"}}), 400,
         "export_request_parameters: Missing input"),
        (lambda sdk: sdk.exports.create_resource_export({"data": TASKS | {"workspace": "7"}}), 404,
         "workspace: Unknown object: 7"),
        (lambda sdk: sdk.jobs.get_job("123", {}), 404, "job: Unknown object: 123"),
        (lambda sdk: sdk.jobs.get_job("a/b", {}), 404, "No matching route"),
        (lambda sdk: sdk.users.get_user("me", {}), 404, "No matching route"),
    ],
)  # fmt: skip
async def test_an_error_is_an_api_exception_with_asanas_body(
    sdk: OfficialClient, call: Callable[[OfficialClient], object], status: int, message: str
) -> None:
    with pytest.raises(ApiException) as caught:
        await asyncio.to_thread(call, sdk)
    assert caught.value.status == status
    assert json.loads(caught.value.body)["errors"][0]["message"] == message


async def test_a_wrong_token_is_an_api_exception_with_a_challenge(api: Api) -> None:
    stranger = OfficialClient(f"{api.url}/api/1.0", "aex_1_2")
    with pytest.raises(ApiException) as caught:
        await asyncio.to_thread(stranger.exports.create_graph_export, GRAPH)
    assert (caught.value.status, caught.value.reason) == (401, "Unauthorized")
    assert caught.value.headers["WWW-Authenticate"].startswith("Bearer ")


@dataclass
class Relay:
    """Between the SDK and the service: it counts the answers, and lets `Retry-After` be soon over."""

    url: str
    on_answer: Callable[[int], None]
    answers: list[tuple[str, int]] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    async def pass_on(self, request: Request, writer: asyncio.StreamWriter) -> None:
        headers = {name: request.headers[name] for name in ("authorization", "content-type")}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as http:
            said = await http.request(request.method, request.path, headers=headers, content=request.body)
        self.answers.append((request.method, said.status_code))
        kept = {"Content-Type": said.headers["Content-Type"]}
        if wait := said.headers.get("Retry-After"):
            self.waits.append(int(wait))
            kept["Retry-After"] = "1"
        self.on_answer(said.status_code)
        writer.write(answer(said.status_code, said.content, None, **kept))


@asynccontextmanager
async def relayed(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault, **narrow: Any
) -> AsyncIterator[tuple[Relay, OfficialClient, Api]]:
    """A service with narrow limits behind a relay."""
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    told = settings.model_copy(update=narrow)
    async with served(told) as (url, services):
        relay = Relay(url, lambda _: None)
        async with serving(relay.pass_on) as between:
            sdk = OfficialClient(f"{between.url}/api/1.0", await a_key(sessions))
            yield relay, sdk, Api(url, told, sessions, None, tenant, services)  # type: ignore[arg-type]


async def test_a_look_is_repeated_while_the_database_is_away(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> None:
    async with relayed(settings, sessions, vault, database_timeout_seconds=1.0) as (relay, sdk, _):
        job = await asyncio.to_thread(sdk.exports.create_graph_export, GRAPH)
        refused = asyncio.Event()
        relay.on_answer = lambda status: refused.set() if status == 503 else None
        async with sessions.begin() as session:
            await session.execute(text("LOCK TABLE job_gids IN ACCESS EXCLUSIVE MODE"))
            looking = asyncio.create_task(asyncio.to_thread(sdk.jobs.get_job, job["gid"], {}))
            await refused.wait()
        assert (await looking)["gid"] == job["gid"]
    looks = [status for method, status in relay.answers if method == "GET"]
    assert looks[0] == 503
    assert looks[-1] == 200
    assert min(relay.waits) > 0


@pytest.mark.usefixtures("one_minute")
async def test_a_start_is_not_repeated_and_a_look_five_times(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> None:
    async with relayed(settings, sessions, vault, requests_per_minute=1) as (relay, sdk, _):
        job = await asyncio.to_thread(sdk.exports.create_graph_export, GRAPH)
        with pytest.raises(ApiException) as caught:
            await asyncio.to_thread(sdk.exports.create_graph_export, {"data": {"parent": "10012002"}})
        assert caught.value.status == 429
        assert int(caught.value.headers["Retry-After"]) > 0
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            await asyncio.to_thread(sdk.jobs.get_job, job["gid"], {})
    assert relay.answers == [("POST", 201), ("POST", 429), *[("GET", 429)] * 6]
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Export)) == 1
