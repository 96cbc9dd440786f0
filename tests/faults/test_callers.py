"""What callers may do and meet: the same request twice, an answer that never comes, a crowd."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlparse

import httpx
from sqlalchemy import func, select, text

from app.exports.models import Export, Status
from app.sandbox.faults import Call
from tests.builders import another_workspace
from tests.processes import until
from tests.system.conftest import Service
from tests.system.exports import assert_verified, resource

TASKS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}

# A hundred thousand of one export, with all that belongs to each.
MULTIPLY = """
    INSERT INTO {table}
    SELECT ({table}).* FROM (
        SELECT jsonb_populate_record(one, {changes}) AS {table}
        FROM {table} AS one, generate_series(1, 100000) AS n
        WHERE {which}) AS many
"""


def caller(service: Service, url: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {service.tenants['1001'].key}"}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60)


async def exports_of(service: Service) -> int:
    async with service.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Export)) or 0


async def test_09_the_same_request_twice_at_the_same_time(service: Service) -> None:
    """At two processes, which know nothing of each other."""
    first, second = service.api(), service.api()
    async with caller(service, await first.address()) as one, caller(service, await second.address()) as two:
        for number in range(50):
            keyed = {"Idempotency-Key": f"key {number}"}
            answers = await asyncio.gather(
                *(http.post("/v1/exports/resource", json=TASKS, headers=keyed) for http in (one, two))
            )
            # Who comes while the other is at work may be asked to come again.
            again = [
                answer
                if answer.status_code == 202
                else await one.post("/v1/exports/resource", json=TASKS, headers=keyed)
                for answer in answers
            ]
            assert [answer.status_code for answer in again] == [202, 202]
            assert len({answer.headers["Location"] for answer in again}) == 1
            assert await exports_of(service) == number + 1


async def test_10_the_api_is_killed_after_the_commit_before_the_answer(service: Service) -> None:
    """The answer is written, but whoever should read it cannot: so it is as if never sent."""
    api = service.api()
    address = urlparse(await api.address())
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    body = json.dumps(TASKS)
    head = [
        "POST /v1/exports/resource HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {service.tenants['1001'].key}",
        "Idempotency-Key: once",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    writer.write("\r\n".join([*head, "", body]).encode())

    async def committed() -> bool | None:
        return bool(await exports_of(service)) or None

    await until(committed, 20, lambda: "the commit")
    api.kill()
    writer.close()
    async with caller(service, await service.api().address()) as http:
        again = await http.post("/v1/exports/resource", json=TASKS, headers={"Idempotency-Key": "once"})
        assert again.status_code == 202
        assert again.headers["Idempotency-Replayed"] == "true"
        service.worker()
        located = await http.get(again.headers["Location"])
    assert await exports_of(service) == 1
    async with service.sessions() as session:
        export = await session.get_one(Export, located.json()["id"])
    (export,) = await service.finished(export)
    await assert_verified(service, export)


async def test_24_a_hundred_thousand_in_one_workspace_and_one_in_each_of_a_hundred_others(
    service: Service,
) -> None:
    gids = [str(gid) for gid in range(2001, 2101)]
    service.sandbox.patch(concurrent_jobs=None, requests_per_minute=None)
    async with service.sessions.begin() as session:
        for gid in gids:
            service.sandbox.put_workspace(gid, tasks=5)
            service.tenants[gid] = await another_workspace(session, service.tenants["1001"], gid)
    async with multiplied(service, await service.submit(resource("1001"))):
        worker = service.worker()
        others = [await service.submit(resource(gid)) for gid in gids]
        for export in await service.finished(*others, within=90):
            await assert_verified(service, export)
        assert "1001" in {entry.workspace for entry in service.sandbox.journal(call=Call.RESOURCE)}
        async with caller(service, await service.api().address()) as http:
            for query in (
                "workspace=1001",
                "workspace=1001&status=queued",
                "workspace=2001",
                "page_size=100",
            ):
                page = await http.get(f"/v1/exports?{query}")
                assert page.status_code == 200
                assert page.json()["items"]
        async with service.sessions() as session:
            queued = select(func.count()).select_from(Export).where(Export.status == Status.QUEUED)
            assert (await session.scalar(queued) or 0) > 99_000
        worker.kill()


@asynccontextmanager
async def multiplied(service: Service, one: Export) -> AsyncIterator[None]:
    """A hundred thousand of the kind meanwhile; made without a history, which would be found missing."""
    key = "lpad(n::text, 32, '0')"
    of_run = f"jsonb_build_object('id', 'run_' || {key}, 'turn', n + 10, 'fingerprint', {key})"
    of_export = f"jsonb_build_object('id', 'exp_' || {key}, 'run', 'run_' || {key})"
    async with service.sessions.begin() as session:
        await session.execute(text(MULTIPLY.format(table="runs", changes=of_run, which=f"id = '{one.run}'")))
        of_this = f"id = '{one.id}'"
        await session.execute(text(MULTIPLY.format(table="exports", changes=of_export, which=of_this)))
        await session.execute(text("ANALYZE"))
    try:
        yield
    finally:
        async with service.sessions.begin() as session:
            # Without looking for references to each, which would take minutes.
            await session.execute(text("SET LOCAL session_replication_role = replica"))
            for table, column in (("events", "export"), ("exports", "id")):
                statement = f"DELETE FROM {table} WHERE {column} LIKE 'exp_0000000000%'"
                await session.execute(text(statement))
