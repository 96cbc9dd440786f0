"""Quotas and load: refused before accepting, told in every answer; and nobody waits for the slow."""

import asyncio
import gzip
import hashlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import GrantSpec
from app.access.vault import Vault
from app.database.base import BigInt
from app.exports.models import Export, Status
from app.exports.runs import HeldArchive
from app.exports.states import change, locked_run
from app.ids import new_worker_id
from app.settings import Settings
from tests.api.conftest import TASKS, Api, other_tasks, served
from tests.api.test_clients import made
from tests.api.test_exports import brought_to
from tests.builders import Tenant, a_tenant, an_artifact, another_workspace


async def asked(caller: httpx.AsyncClient, **more: Any) -> httpx.Response:
    return await caller.post("/v1/exports/resource", json=other_tasks() | more)


async def succeeded(api: Api, export_id: str, content: bytes) -> str:
    """The export with a file; returns the artifact."""
    await brought_to(api, export_id, Status.RUNNING, Status.ARCHIVING)
    unpacked = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    async with api.sessions.begin() as session:
        run = await locked_run(session, (await session.get_one(Export, export_id)).run)
        artifact = an_artifact(HeldArchive(run.id, new_worker_id(), 1))
        artifact.bytes = BigInt(len(content))
        artifact.sha256 = hashlib.sha256(content).hexdigest()
        artifact.uncompressed_bytes = BigInt(len(unpacked))
        session.add(artifact)
        run.submitted_at = run.slot_freed_at = datetime.now(UTC)
        await change(session, run, Status.SUCCEEDED, actor="worker")
    async with api.services.store.writer(artifact.key) as writer:
        await writer.write(content)
        await writer.publish()
    return artifact.id


async def count(api: Api) -> int:
    async with api.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Export)) or 0


async def test_a_client_has_so_many_queued_at_a_time(api: Api, admin: httpx.AsyncClient) -> None:
    caller = await api.with_key((await made(admin, max_queued=2))["key"])
    first, second = await asked(caller), await asked(caller)
    assert '"queued";q=2' in first.headers["RateLimit-Policy"]
    assert ['"queued";r=1' in first.headers["RateLimit"], '"queued";r=0' in second.headers["RateLimit"]] == [
        True
    ] * 2
    refused = await asked(caller)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")
    assert "queued of 2" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert await count(api) == 2
    plan = await caller.post("/v1/exports/plan", json=other_tasks())
    assert plan.json()["code"] == "quota-exceeded"
    await caller.post(first.headers["Location"] + "/cancel")
    assert (await asked(caller)).status_code == 202


async def test_a_grant_has_a_quota_of_its_own(api: Api, vault: Vault) -> None:
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1002")
    grants = [GrantSpec(workspace="1001", max_queued=1), GrantSpec(workspace="1002")]
    caller = await api.caller(grants=grants)
    assert (await asked(caller)).status_code == 202
    assert (await asked(caller)).json()["code"] == "quota-exceeded"
    assert (await asked(caller, workspace="1002")).status_code == 202


async def test_a_quota_holds_in_all_workspaces_at_once(api: Api, admin: httpx.AsyncClient) -> None:
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1002")
    for number in range(10):
        spec = {"name": f"narrow {number}", "max_queued": 1, "grants": [{"workspace": "*"}]}
        caller = await api.with_key((await made(admin, **spec))["key"])
        both = [asked(caller, workspace=gid) for gid in ("1001", "1002")]
        assert sorted([answer.status_code for answer in await asyncio.gather(*both)]) == [202, 429]


async def test_stored_files_count(api: Api, admin: httpx.AsyncClient) -> None:
    caller = await api.with_key((await made(admin, max_stored_bytes=10))["key"])
    export = await asked(caller)
    assert '"stored-bytes";r=10' in export.headers["RateLimit"]
    await succeeded(api, export.json()["id"], b"x" * 10)
    refused = await asked(caller)
    assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")


async def test_what_shares_a_run_counts_too(api: Api, admin: httpx.AsyncClient) -> None:
    caller = await api.with_key((await made(admin, max_queued=1))["key"])
    assert (await caller.post("/v1/exports/resource", json=TASKS)).status_code == 202
    assert (await caller.post("/v1/exports/resource", json=TASKS)).json()["code"] == "quota-exceeded"


@pytest.fixture
async def small(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault
) -> AsyncIterator[httpx.AsyncClient]:
    """A service with narrow limits, and one who may do everything there."""
    async with sessions.begin() as session:
        tenant: Tenant = await a_tenant(session, vault)
    narrow = settings.model_copy(
        update={"max_queued_per_lane": 3, "requests_per_minute": 12, "body_seconds": 1.0}
    )
    async with (
        served(narrow) as (url, _),
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
    ):
        client.headers["Authorization"] = f"Bearer {tenant.key}"
        yield client


async def test_a_full_queue_takes_nothing_more(small: httpx.AsyncClient) -> None:
    answers = [await asked(small) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 503]
    assert answers[-1].json()["code"] == "queue-full"
    assert int(answers[-1].headers["Retry-After"]) > 0


@pytest.mark.usefixtures("one_minute")
async def test_who_asks_too_fast_is_told_to_wait(small: httpx.AsyncClient) -> None:
    answers = [await small.get("/v1/exports") for _ in range(13)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429]
    assert [answer.headers["RateLimit-Policy"] for answer in answers] == ['"requests";q=12;w=60'] * 13
    remaining = [int(answer.headers["RateLimit"].split(";")[1].removeprefix("r=")) for answer in answers]
    assert remaining == [*range(11, -1, -1), 0]
    assert answers[-1].json()["code"] == "too-many-requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert (await small.get("/healthz")).status_code == 200


def halfway(url: httpx.URL, headers: httpx.Headers) -> socket.socket:
    """A request whose body does not arrive."""
    connection = socket.create_connection((url.host, url.port), timeout=20)
    connection.sendall(
        b"POST /v1/exports/resource HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 1000\r\nAuthorization: " + headers["Authorization"].encode() + b"\r\n\r\n{"
    )
    return connection


async def test_slow_senders_keep_nobody_waiting(small: httpx.AsyncClient) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(halfway(small.base_url, small.headers)) for _ in range(100)]
        began = time.monotonic()
        assert (await asked(small)).status_code == 202
        assert time.monotonic() - began < 5
        told = await asyncio.to_thread(slow[0].recv, 4096)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request-timeout"' in told or b'"code":"request-timeout"' in await asyncio.to_thread(
            slow[0].recv, 4096
        )
        assert await asyncio.to_thread(slow[0].recv, 4096) == b""


async def test_slow_readers_keep_nobody_waiting(api: Api, caller: httpx.AsyncClient) -> None:
    """More of them than there are connections to the database."""
    export = (await asked(caller)).json()["id"]
    artifact = await succeeded(api, export, b"x" * 20_000_000)
    async with httpx.AsyncClient(base_url=api.url, headers=caller.headers, trust_env=False) as client:
        streams = [client.stream("GET", f"/v1/artifacts/{artifact}/content") for _ in range(20)]
        for stream in streams:
            assert (await stream.__aenter__()).status_code == 200
        assert (await asked(caller)).status_code == 202
        for stream in streams:
            await stream.__aexit__(None, None, None)


async def test_a_header_without_an_end_is_not_read_to_its_end(api: Api, caller: httpx.AsyncClient) -> None:
    # Whether the answer can be read depends on how much was sent when the connection was closed.
    with suppress(httpx.TransportError):
        refused = await caller.get("/v1/exports", headers={"X-Long": "x" * (1 << 20)})
        assert refused.status_code == 400
    assert (await caller.get("/v1/exports")).status_code == 200
