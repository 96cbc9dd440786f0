"""What the client concludes from each answer of Asana, and from none."""

import asyncio
import gzip
import json
import traceback
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from app.asana.client import READS_AT_ONCE, STARTS_AT_ONCE, AsanaClient
from app.asana.errors import (
    AsanaError,
    Forbidden,
    NotAuthorized,
    NotFound,
    OutcomeUnknown,
    PlanRequired,
    RateLimited,
    Refused,
    Unavailable,
)
from app.asana.schemas import Job, JobStatus
from app.lanes.lease import LaneLost
from tests.servers import Handler, Request, always, answer, hang_up, serving

TOKEN = SecretStr("planted-secret-token")
JOB = {"gid": "12", "status": "succeeded", "new_graph_export": None}
EXPORT = {"gid": "13", "created_at": "2026-01-01T00:00:00.000Z", "download_url": "https://x/y"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=0.5) as client:
        yield client


def envelope(*messages: str) -> bytes:
    return json.dumps({"errors": [{"message": message, "help": "..."} for message in messages]}).encode()


def data(value: object) -> bytes:
    return json.dumps({"data": value}).encode()


async def start(http: httpx.AsyncClient, handler: Handler) -> object:
    async with serving(handler) as server:
        return await AsanaClient(http, server.url).create_graph_export(TOKEN, "1")


async def look(http: httpx.AsyncClient, handler: Handler) -> object:
    async with serving(handler) as server:
        return await AsanaClient(http, server.url).get_job(TOKEN, "12")


STATUSES: list[tuple[int, type[AsanaError], type[AsanaError]]] = [
    (400, Refused, Refused),
    (401, NotAuthorized, NotAuthorized),
    (402, PlanRequired, PlanRequired),
    (403, Forbidden, Forbidden),
    (404, Refused, NotFound),
    (451, PlanRequired, PlanRequired),
    (429, RateLimited, RateLimited),
    (500, OutcomeUnknown, Unavailable),
    (503, OutcomeUnknown, Unavailable),
    (302, OutcomeUnknown, Unavailable),
]


@pytest.mark.parametrize(("status", "on_start", "on_look"), STATUSES)
async def test_each_status_has_its_meaning(
    http: httpx.AsyncClient, status: int, on_start: type[AsanaError], on_look: type[AsanaError]
) -> None:
    response = always(answer(status, envelope("parent: Forbidden"), Location="http://127.0.0.2:9/"))
    with pytest.raises(on_start, match="parent: Forbidden"):
        await start(http, response)
    with pytest.raises(on_look, match="parent: Forbidden"):
        await look(http, response)


@pytest.mark.parametrize(
    ("header", "seconds"), [("90", 90), ("1.5", 1.5), ("soon", 30), ("0", 1), ("999999", 3600), ("nan", 30)]
)
async def test_retry_after_is_told(http: httpx.AsyncClient, header: str, seconds: float) -> None:
    with pytest.raises(RateLimited) as limited:
        await look(http, always(answer(429, envelope("slow down"), Retry_After=header)))
    assert limited.value.retry_after == seconds


async def test_a_crowd_is_served_in_turn() -> None:
    at_once = most = 0
    full = asyncio.Event()

    async def slowly(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == READS_AT_ONCE:
            full.set()
        await full.wait()
        # Others have the time to come.
        for _turn in range(100):
            await asyncio.sleep(0)
        at_once -= 1
        writer.write(answer(200, data(JOB)))

    unlimited = httpx.Limits(max_connections=None)
    async with serving(slowly) as server, httpx.AsyncClient(timeout=30, limits=unlimited) as http:
        client = AsanaClient(http, server.url)
        jobs = await asyncio.gather(*(client.get_job(TOKEN, "12") for _ in range(3 * READS_AT_ONCE)))
    assert len(jobs) == 3 * most == 3 * READS_AT_ONCE


async def test_a_start_that_waits_for_its_turn_is_asked_for_again_when_it_comes() -> None:
    """Who was ready when it began to wait may have lost its lease meanwhile."""
    full, ended, started = asyncio.Event(), asyncio.Event(), 0
    lost = False

    async def slowly(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal started
        started += 1
        if started == STARTS_AT_ONCE:
            full.set()
        await ended.wait()
        writer.write(answer(201, data(JOB)))

    def ready() -> None:
        if lost:
            raise LaneLost

    async with serving(slowly) as server, httpx.AsyncClient(timeout=30) as http:
        client = AsanaClient(http, server.url)
        starting = [
            asyncio.create_task(client.create_graph_export(TOKEN, "11", ready))
            for _ in range(STARTS_AT_ONCE + 1)
        ]
        await full.wait()
        lost = True
        ended.set()
        *begun, waited = await asyncio.gather(*starting, return_exceptions=True)
    assert all(isinstance(each, Job) for each in begun)
    assert (type(waited), started) == (LaneLost, STARTS_AT_ONCE)


async def never(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "handler",
    [
        hang_up,
        never,
        always(answer(201, b"<html>")),
        always(answer(201, b'{"data": null}')),
        always(answer(201, b"{}")),
        always(answer(201, data(JOB), length=10_000)),
    ],
)
async def test_a_lost_answer_leaves_the_outcome_of_a_start_unknown(
    http: httpx.AsyncClient, handler: Handler
) -> None:
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(start(http, handler), 10)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(look(http, handler), 10)


async def test_a_call_that_never_left_was_surely_not_carried_out(http: httpx.AsyncClient) -> None:
    async with serving(hang_up) as server:
        url = server.url
    with pytest.raises(Unavailable):
        await AsanaClient(http, url).create_graph_export(TOKEN, "1")


async def test_a_start_sends_what_asana_documents(http: httpx.AsyncClient) -> None:
    async with serving(always(answer(201, data(JOB)))) as server:
        client = AsanaClient(http, f"{server.url}/api/1.0/")
        await client.create_resource_export(TOKEN, "1001", [{"resource_type": "task"}])
        await client.create_graph_export(TOKEN, "77")
        await client.get_job(TOKEN, "12")
    resource, graph, job = server.requests
    assert (resource.method, resource.path) == ("POST", "/api/1.0/exports/resource")
    assert json.loads(resource.body) == {
        "data": {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}
    }
    assert (graph.path, json.loads(graph.body)) == ("/api/1.0/exports/graph", {"data": {"parent": "77"}})
    assert job.path.startswith("/api/1.0/jobs/12?opt_fields=status")
    assert "new_graph_export.download_url" in job.path
    assert resource.headers["authorization"] == "Bearer planted-secret-token"


@pytest.mark.parametrize("name", ["new_graph_export", "new_resource_export"])
async def test_a_job_is_read_whatever_it_exports(http: httpx.AsyncClient, name: str) -> None:
    body = {"gid": "12", "status": "brand_new", "new_graph_export": None, "more": 1, name: EXPORT}
    async with serving(always(answer(200, data(body)))) as server:
        job = await AsanaClient(http, server.url).get_job(TOKEN, "12")
    assert (job.status, job.raw_status) == (JobStatus.UNKNOWN, "brand_new")
    assert job.export is not None
    assert job.export.download_url == "https://x/y"
    assert "https://x/y" not in repr(job)


async def test_the_token_is_in_no_error(http: httpx.AsyncClient) -> None:
    broken = [hang_up, never, *(always(answer(status, b"no")) for status, _, _ in STATUSES)]
    for handler in broken:
        with pytest.raises(AsanaError) as error:
            await start(http, handler)
        told = "".join(traceback.format_exception(error.value)) + repr(error.value)
        assert TOKEN.get_secret_value() not in told


async def test_what_changes_nothing_is_asked_again_where_the_connection_was_cut(
    http: httpx.AsyncClient,
) -> None:
    """As a kept connection may be, in the moment in which it is used again."""

    async def cut_first(request: Request, writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 1:
            await hang_up(request, writer)
        else:
            writer.write(answer(200, data(JOB)))

    async with serving(cut_first) as server:
        assert (await AsanaClient(http, server.url).get_job(TOKEN, "12")).gid == "12"


async def test_a_connection_that_is_always_cut_is_given_up_and_a_start_is_never_repeated_here(
    http: httpx.AsyncClient,
) -> None:
    async with serving(hang_up) as server:
        asana = AsanaClient(http, server.url)
        with pytest.raises(Unavailable):
            await asana.get_job(TOKEN, "12")
        with pytest.raises(OutcomeUnknown):
            await asana.create_graph_export(TOKEN, "1")
    assert [request.method for request in server.requests] == ["GET", "GET", "POST"]


@pytest.mark.parametrize(
    "response",
    [
        answer(200, data("x" * (1 << 20))),
        answer(200, gzip.compress(data(" " * (1 << 26))), Content_Encoding="gzip"),
        answer(200, b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        answer(500, b'{"errors":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        answer(200, data(JOB), X_Long="x" * (1 << 20)),
    ],
    ids=["long", "bomb", "deep", "deep error", "long header"],
)
async def test_an_answer_that_cannot_be_asanas_is_not_read_to_its_end(
    http: httpx.AsyncClient, response: bytes
) -> None:
    with pytest.raises(Unavailable):
        await look(http, always(response))
    with pytest.raises(OutcomeUnknown):
        await start(http, always(response))


async def test_a_packed_answer_is_unpacked(http: httpx.AsyncClient) -> None:
    packed = answer(200, gzip.compress(data(JOB)), Content_Encoding="gzip")
    assert await look(http, always(packed)) == await look(http, always(answer(200, data(JOB))))


async def test_an_answer_that_drips_is_not_waited_for(http: httpx.AsyncClient) -> None:
    async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _byte in range(1000):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as server:
        with pytest.raises(OutcomeUnknown, match="longer than"):
            await AsanaClient(http, server.url, longest=0.3).create_graph_export(TOKEN, "1")
