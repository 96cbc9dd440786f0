"""The whole way over HTTP: an API process, a worker process, and a tool that knows only its key."""

import gzip
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import httpx
import orjson
import pytest
from sqlalchemy import func, update

from app.access.clients import ClientSpec, create_client
from app.access.models import Scope
from app.artifacts.models import Artifact
from app.events.log import Cause
from tests.processes import until
from tests.stores import folder_of
from tests.system.conftest import Service

Json = dict[str, Any]
TASKS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}


@pytest.fixture
async def tool(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    api = service.api()
    service.worker()
    async with caller(await api.address(), service.tenants["1001"].key) as tool:
        yield tool


def caller(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
    )


async def another(service: Service, tool: httpx.AsyncClient, *scopes: Scope) -> httpx.AsyncClient:
    async with service.sessions.begin() as session:
        _, key = await create_client(session, ClientSpec(name="another", scopes=scopes), Cause("test"))
    return caller(str(tool.base_url), key)


async def ended(tool: httpx.AsyncClient, location: str) -> Json:
    async def look() -> Json | None:
        export: Json = (await tool.get(location)).json()
        return export if export["status"] in {"succeeded", "failed", "canceled"} else None

    return await until(look, 30, lambda: f"the end of {location}")


async def exported(tool: httpx.AsyncClient) -> Json:
    sent = await tool.post("/v1/exports/resource", json=TASKS)
    assert sent.status_code == 202
    return await ended(tool, sent.headers["Location"])


async def test_what_was_asked_for_is_downloaded_as_it_was_verified(tool: httpx.AsyncClient) -> None:
    export = await exported(tool)
    artifact = export["artifact"]
    assert export["status"] == "succeeded", export["error"]
    response = await tool.get(artifact["url"])
    assert response.headers["Content-Type"] == "application/gzip"
    assert "Content-Encoding" not in response.headers
    assert response.headers["ETag"] == f'"sha256-{artifact["sha256"]}"'
    assert response.headers["Content-Disposition"].endswith('.jsonl.gz"')
    assert len(response.content) == int(response.headers["Content-Length"]) == artifact["bytes"]
    assert hashlib.sha256(response.content).hexdigest() == artifact["sha256"]
    assert file_of(artifact).read_bytes() == response.content
    lines = [orjson.loads(line) for line in gzip.decompress(response.content).splitlines()]
    assert artifact["by_type"] == {"task": len(lines)} == {"task": artifact["lines"]}
    story = (await tool.get(f"/v1/exports/{export['id']}/events")).json()["items"]
    assert [event["type"] for event in story][::4] == ["export.created", "export.succeeded"]


def file_of(artifact: Json) -> Path:
    return Path(url2pathname(urlparse(artifact["location"]).path))


async def test_a_file_that_is_known_is_not_sent_again(tool: httpx.AsyncClient) -> None:
    artifact = (await exported(tool))["artifact"]
    head = await tool.head(artifact["url"])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(artifact["bytes"]))
    known = await tool.get(artifact["url"], headers={"If-None-Match": head.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")


async def test_a_file_past_its_time_is_gone(service: Service, tool: httpx.AsyncClient) -> None:
    export = await exported(tool)
    async with service.sessions.begin() as session:
        await session.execute(update(Artifact).values(expires_at=func.now()))
    gone = await tool.get(export["artifact"]["url"])
    assert (gone.status_code, gone.json()["code"]) == (410, "artifact-expired")
    again = (await tool.get(f"/v1/exports/{export['id']}")).json()
    assert (again["status"], again["artifact"]["state"]) == ("succeeded", "expired")


async def test_a_file_is_for_its_client_and_for_keys_that_may_read_files(
    service: Service, tool: httpx.AsyncClient
) -> None:
    url = (await exported(tool))["artifact"]["url"]
    async with await another(service, tool, Scope.ARTIFACTS_READ) as stranger:
        refused = await stranger.get(url)
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")


async def test_a_file_that_is_not_as_it_was_stored_is_not_sent(tool: httpx.AsyncClient) -> None:
    artifact = (await exported(tool))["artifact"]
    file = file_of(artifact)
    assert file.stat().st_mode & 0o007 == file.parent.stat().st_mode & 0o007 == 0
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    damaged = await tool.get(artifact["url"])
    file.unlink()
    missing = await tool.get(artifact["url"])
    for answer in (damaged, missing):
        assert (answer.status_code, answer.json()["code"]) == (500, "artifact-missing")
    file.write_bytes(whole)


async def test_a_canceled_export_leaves_no_file(service: Service, tool: httpx.AsyncClient) -> None:
    service.sandbox.patch(run_seconds=(60, 60))
    sent = await tool.post("/v1/exports/resource", json=TASKS)

    async def started() -> bool | None:
        return (await tool.get(sent.headers["Location"])).json()["status"] == "running" or None

    await until(started, 10, lambda: "a start")
    assert (await tool.post(sent.headers["Location"] + "/cancel")).json()["status"] == "canceling"
    assert (await ended(tool, sent.headers["Location"]))["status"] == "canceled"
    following = await exported(tool)
    assert following["status"] == "succeeded"
    files = [path for path in folder_of(service.settings).rglob("*") if path.is_file()]
    assert files == [file_of(following["artifact"])]


async def test_no_secret_is_in_any_log(service: Service, tool: httpx.AsyncClient) -> None:
    """Tokens and keys were used, refused and replaced; the logs of all processes speak of all that."""
    tenant = service.tenants["1001"]
    service.sandbox.add_token("planted-token-1", "planted")
    body = {"name": "planted", "token": "planted-token-1"}
    assert (await tool.post("/v1/credentials", json=body)).status_code == 201
    assert (await tool.post("/v1/credentials", json=body | {"token": "planted-token-2"})).status_code == 422
    await exported(tool)
    service.sandbox.revoke_token("service")
    sent = await tool.post("/v1/exports/resource", json=TASKS)
    address = f"/v1/credentials/{tenant.credential}"

    async def refused() -> bool | None:
        return (await tool.get(address)).json()["state"] == "invalid" or None

    await until(refused, 10, lambda: "the worker to find the token refused")
    service.sandbox.add_token("planted-token-3", "service")
    replaced = await tool.put(address, json={"token": "planted-token-3"})
    assert replaced.status_code == 200
    assert (await ended(tool, sent.headers["Location"]))["status"] == "succeeded"
    logs = "".join(path.read_text() for path in service.folder.glob("*.log"))
    assert "credential.invalid" in logs
    for secret in ("planted-token", "sandbox-service-token", tenant.key, tenant.key.rsplit("_", 1)[-1]):
        assert secret not in logs
