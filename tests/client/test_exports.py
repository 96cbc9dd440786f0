"""Asking for exports and waiting for them, by both faces of the client."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

import httpx
import msgspec
import pytest
from sqlalchemy import func, select

from app.exports.models import Export as ExportRow
from asana_exports_client import (
    AsyncClient,
    Damaged,
    Export,
    ExportCanceled,
    ExportFailed,
    Filters,
    Message,
    NotFinished,
    NotGenuine,
    Task,
    problems,
    verify_receipt,
)
from asana_exports_client.models import Priority, ResourceType, Status, WaitReason
from tests.client.conftest import ClientAt, port_of
from tests.client.relay import relay
from tests.processes import until
from tests.servers import Request
from tests.system.conftest import Service
from tests.system.exports import PARENTS

FIELDS = ["gid", "name", "resource_type"]
SINCE = Filters(modified_at_after=datetime(2000, 1, 1, tzinfo=UTC))


class Named(TypedDict):
    gid: str
    name: str


@dataclass
class Row:
    gid: str
    name: str


class Strict(msgspec.Struct, frozen=True):
    gid: int


async def exports_in(service: Service) -> int:
    async with service.sessions() as session:
        return await session.scalar(select(func.count()).select_from(ExportRow)) or 0


async def test_the_whole_way(client: AsyncClient, tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    planned = await client.plan("1001", [Task(fields=FIELDS), Message(filters=SINCE)])
    assert planned.status == Status.QUEUED
    asked = await client.export_resource(
        "1001", Task(fields=FIELDS), priority="high", deliver_by=soon, queue_ttl=3600, labels={"team": "bi"}
    )
    assert (asked.priority, asked.labels, asked.deliver_by) == (Priority.HIGH, {"team": "bi"}, soon)
    seen: list[str] = []
    done = await client.wait(asked, lambda now: seen.append(now.status), timeout=120)
    assert seen[0] in {"queued", "running"}
    assert seen[-1] == "succeeded" == done.status
    assert done.artifact

    path = await client.download(done, tmp_path / "tasks.jsonl.gz")
    assert path.stat().st_size == done.artifact.bytes
    plain = [record async for record in client.records(done.id)]
    named = [record async for record in client.records(done, Named)]
    rows = [record async for record in client.records(done, Row)]
    assert len(plain) == done.artifact.lines == done.artifact.by_type["task"]
    assert [each["gid"] for each in plain] == [each["gid"] for each in named] == [row.gid for row in rows]
    assert set(plain[0]) == set(FIELDS)

    manifest = await client.manifest(done)
    assert manifest.totals.lines == len(plain)
    story = await client.timeline(done)
    assert (story[0].type, story[-1].type) == ("export.created", "export.succeeded")
    assert [each.id async for each in client.list(label="team:bi", workspace="1001")] == [done.id]
    assert [each async for each in client.list(created_after=soon)] == []
    assert (await client.get(done)).id == done.id

    receipt, keys = await client.receipt(done), await client.signing_keys()
    assert verify_receipt(receipt, keys, path)["artifact"] == done.artifact.id
    other = tmp_path / "other"
    other.write_bytes(b"another file")
    with pytest.raises(Damaged):
        verify_receipt(receipt, keys, other)
    with pytest.raises(NotGenuine):
        verify_receipt(receipt[:-9] + receipt[-5:], keys)


async def test_the_simple_form_and_graphs(client: AsyncClient) -> None:
    result = await client.run("1001", "team", fields=["gid", "resource_type"], timeout=120)
    assert {record["resource_type"] async for record in result.records()} == {"team"}
    both = await client.run("1001", ["task", ResourceType.MESSAGE], filters=SINCE, timeout=120)
    assert set(both.types) == {"task", "message"}
    assert both.export.request["export_request_parameters"][1]["filters"] == {
        "modified_at.after": "2000-01-01T00:00:00Z"
    }
    graph = await client.run("1001", parent=PARENTS["project"], timeout=120)
    assert graph.export.kind == "graph"
    shared = await client.export_graph("1001", PARENTS["project"], max_age=3600)
    assert (shared.status, shared.run.id) == (Status.SUCCEEDED, graph.export.run.id)
    with pytest.raises(ValueError, match="each of the things"):
        await client.export_resource("1001", [Task()], fields=FIELDS)


async def test_a_record_that_is_not_of_the_type_is_told(client: AsyncClient) -> None:
    result = await client.run("1001", Task(fields=FIELDS), timeout=120)
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$.gid`"):
        _ = [record async for record in result.records(Strict)]


async def test_an_answer_that_is_lost_makes_no_second_export(
    api: str, service: Service, client_at: ClientAt
) -> None:
    def lost_once(_: Request, told: httpx.Response, number: int) -> httpx.Response | None:
        return told if number else None

    async with relay(api, lost_once) as between:
        client = client_at(between.url)
        asked = await client.export_resource("1001", "team")
        first, second = between.requests
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert first.body == second.body
        again = await client.export_resource("1001", "team")
    assert again.id != asked.id
    assert await exports_in(service) == 2


async def test_a_key_of_ones_own_is_taken(client: AsyncClient, service: Service) -> None:
    one = await client.export_graph("1001", PARENTS["team"], idempotency_key="nightly 1")
    two = await client.export_graph("1001", PARENTS["team"], idempotency_key="nightly 1")
    assert one.id == two.id
    with pytest.raises(problems.IdempotencyKeyReused):
        await client.export_graph("1001", PARENTS["goal"], idempotency_key="nightly 1")
    assert await exports_in(service) == 1


async def test_a_wait_outlives_a_restart_of_the_service(service: Service, client_at: ClientAt) -> None:
    service.sandbox.hold_slot("1001")
    service.worker()
    api = service.api()
    url = await api.address()
    client = client_at(url)
    seen: list[Export] = []
    waiting = asyncio.create_task(client.wait(await client.export_resource("1001"), seen.append))

    async def waits() -> bool | None:
        return (seen and seen[-1].wait_reason == WaitReason.UPSTREAM_SLOT_BUSY) or None

    await until(waits, 60, lambda: "an export that waits for its slot")
    api.kill()
    service.sandbox.release_slot("1001")
    await service.api(PORT=port_of(url)).address()
    done = await asyncio.wait_for(waiting, 120)
    assert (done.status, seen[-1].status) == (Status.SUCCEEDED, Status.SUCCEEDED)


async def test_a_wait_may_end_before_the_export(client: AsyncClient, service: Service) -> None:
    service.sandbox.hold_slot("1001")
    asked = await client.export_resource("1001")
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.5 seconds"):
        await client.wait(asked, timeout=0.5)
    with pytest.raises(NotFinished):
        _ = [record async for record in client.records(asked)]
    with pytest.raises(problems.NotReady):
        await client.manifest(asked)
    service.sandbox.release_slot("1001")
    assert (await client.wait(asked, timeout=120)).status == Status.SUCCEEDED


async def test_a_failure_tells_its_problem(client: AsyncClient) -> None:
    asked = await client.export_graph("1001", "404404")
    with pytest.raises(ExportFailed) as failed:
        await client.wait(asked, timeout=120)
    assert isinstance(failed.value.problem, problems.ParentNotInWorkspace)
    assert failed.value.export.id == asked.id
    assert (failed.value.problem.status, failed.value.problem.retryable) == (None, False)


async def test_ends_that_are_no_success_are_raised(client: AsyncClient, service: Service) -> None:
    service.sandbox.hold_slot("1001")
    asked = await client.export_resource("1001")
    await client.cancel(asked)
    with pytest.raises(ExportCanceled):
        await client.wait(asked, timeout=120)
    with pytest.raises(ExportCanceled):
        await client.download(asked.id, "never")
    again = await client.retry(asked)
    assert again.retry_of == asked.id
    with pytest.raises(problems.NotRetryable):
        await client.retry(again)
    with pytest.raises(problems.NotFound):
        await client.wait("exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071")


async def test_an_interrupted_wait_leaves_the_export_as_it_is(service: Service) -> None:
    service.sandbox.hold_slot("1001")
    service.worker()
    url = await service.api().address()
    code = (
        "import asana_exports_client as exports\n"
        "with exports.Client() as client:\n"
        "    client.wait(client.export_resource('1001'), lambda now: print(now.id, flush=True))\n"
    )
    variables = {"ASANA_EXPORTS_URL": url, "ASANA_EXPORTS_KEY": service.tenants["1001"].key}
    waiting = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env={**os.environ, **variables}, stdout=-1, stderr=-1
    )
    assert waiting.stdout
    export = (await asyncio.wait_for(waiting.stdout.readline(), 120)).decode().strip()
    waiting.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(waiting.communicate(), 60)
    assert waiting.returncode not in {0, None}
    assert b"KeyboardInterrupt" in said
    service.sandbox.release_slot("1001")
    async with AsyncClient(url, service.tenants["1001"].key) as client:
        assert (await client.wait(export, timeout=120)).status == Status.SUCCEEDED
