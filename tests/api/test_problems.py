"""Every error is a problem document, whatever causes it."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import text

from app.api.problems import STATUSES
from app.problems import EXPLANATIONS, Code
from tests.api.conftest import TASKS, Api, served
from tests.locks import until_somebody_waits
from tests.postgres import cut_off

JSON = {"Content-Type": "application/json"}


async def problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, object] = response.json()
    assert document["code"] == code
    assert document["status"] == status
    assert document["type"] == f"/problems/{code}"
    assert document["request_id"] == response.headers["X-Request-Id"]
    return document


@pytest.mark.parametrize("code", list(Code))
async def test_every_code_is_explained_on_a_page_of_its_own(api: Api, code: Code) -> None:
    page = await (await api.anybody()).get(f"/problems/{code}")
    assert page.status_code == 200
    assert code in page.text
    assert EXPLANATIONS[code].advice[:20] in page.text


def test_every_code_that_answers_a_request_has_its_status() -> None:
    only_within = {code for code in Code if code not in STATUSES}
    of_runs = ("upstream", "credential", "artifact", "download", "poison", "run", "parent", "queue-ttl")
    of_conversions = ("not-convertible", "conversion-failed")
    assert all(str(code).startswith(of_runs + of_conversions) for code in only_within)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1", b"\xff\xfe", b'{"workspace": NaN', b"[" * 100_000, b'{"a":' * 50_000]
)
async def test_a_body_that_is_no_json(caller: httpx.AsyncClient, body: bytes) -> None:
    response = await caller.post("/v1/exports/resource", content=body, headers=JSON)
    if body:
        await problem(response, 400, "malformed-json")
    else:
        await problem(response, 422, "validation-failed")


async def test_a_body_of_another_type_or_shape(caller: httpx.AsyncClient) -> None:
    for body in (b"[]", b'"text"', b"1"):
        response = await caller.post("/v1/exports/resource", content=body, headers=JSON)
        await problem(response, 422, "validation-failed")


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", None])
async def test_a_body_that_is_not_said_to_be_json(
    caller: httpx.AsyncClient, content_type: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await caller.post("/v1/exports/resource", content=b'{"workspace": "1001"}', headers=headers)
    await problem(response, 415, "unsupported-media-type")


async def test_a_body_without_end_is_not_read(caller: httpx.AsyncClient) -> None:
    told = await caller.post("/v1/exports/resource", content=b" " * (2 << 20), headers=JSON)
    await problem(told, 413, "body-too-large")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * (1 << 16)

    untold = await caller.post("/v1/exports/resource", content=pieces(), headers=JSON)
    await problem(untold, 413, "body-too-large")


async def test_a_path_or_method_that_is_not_there(caller: httpx.AsyncClient) -> None:
    await problem(await caller.get("/v1/nothing"), 404, "not-found")
    refused = await caller.delete("/v1/exports")
    await problem(refused, 405, "method-not-allowed")
    assert refused.headers["Allow"] == "HEAD, GET"
    both = await caller.delete("/v1/credentials")
    assert both.headers["Allow"] == "HEAD, GET, POST"
    await problem(await caller.get("/v1/exports/"), 404, "not-found")


@pytest.mark.parametrize(
    "path",
    ["/v1/exports/%00", "/v1/exports/x/events", "/v1/artifacts/%00/content", "/v1/exports/" + "e" * 5000],
)
async def test_what_cannot_be_an_id_names_nothing(caller: httpx.AsyncClient, path: str) -> None:
    await problem(await caller.get(path), 404, "not-found")


async def test_many_faults_are_told_by_the_first(caller: httpx.AsyncClient) -> None:
    item = {"resource_type": "team", "filters": {f"f{number}": 1 for number in range(5000)}}
    body = {"workspace": "1001", "export_request_parameters": [item]}
    document = (await caller.post("/v1/exports/resource", json=body)).json()
    assert "5000 faults" in document["detail"]
    assert len(document["errors"]) == 100


async def test_head_says_what_get_would(caller: httpx.AsyncClient) -> None:
    for path, status in {"/healthz": 200, "/v1/exports": 200, "/v1/nothing": 404}.items():
        head, get = await caller.head(path), await caller.get(path)
        assert (head.status_code, head.content) == (status, b"")
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_problem_pages_of_unknown_codes(caller: httpx.AsyncClient) -> None:
    await problem(await caller.get("/problems/made-up"), 404, "not-found")


async def test_the_callers_request_id_is_kept_if_it_is_sane(api: Api) -> None:
    nobody = await api.anybody()
    for given, kept in {"abc-1": True, "a b": False, "x" * 200: False}.items():
        answer = await nobody.get("/healthz", headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) is kept


async def test_a_mistake_of_ours_is_a_problem_too(api: Api, admin: httpx.AsyncClient) -> None:
    """The database loses a column behind the application's back."""
    async with api.sessions.begin() as session:
        await session.execute(text("ALTER TABLE exports RENAME labels TO lost"))
    document = await problem(await admin.get("/v1/exports"), 500, "internal-error")
    assert "labels" not in str(document)
    await problem(await admin.post("/v1/exports/resource", json=TASKS), 500, "internal-error")
    async with api.sessions.begin() as session:
        await session.execute(text("ALTER TABLE exports RENAME lost TO labels"))


async def test_a_database_that_is_away_is_said_so(api: Api, postgres_url: str) -> None:
    nobody, admin = await api.anybody(), await api.admin()
    with cut_off(api.settings, postgres_url):
        response = await admin.get("/v1/exports")
        await problem(response, 503, "database-unavailable")
        assert response.headers["Retry-After"] == "5"
        assert (await nobody.get("/healthz")).status_code == 200
    assert (await admin.get("/v1/exports")).status_code == 200


async def test_what_a_process_that_stops_has_no_time_for_is_to_be_sent_again(api: Api) -> None:
    async with api.sessions() as session, httpx.AsyncClient(timeout=20) as http:
        async with served(api.settings, grace=1) as (url, _):
            await session.execute(text("LOCK TABLE exports"))
            key = {"Authorization": f"Bearer {api.tenant.key}"}
            asking = asyncio.create_task(http.get(f"{url}/v1/exports", headers=key))
            await until_somebody_waits(api.sessions)
        response = await asking
    await problem(response, 503, "shutting-down")
    assert response.headers["Retry-After"] == "1"
