"""Asking again for what has ended, and asking what would become of it."""

import httpx
import pytest
from sqlalchemy import text

from app.access.clients import GrantSpec
from app.exports.models import Status
from tests.api.conftest import PROJECT, TASKS, Api, other_tasks
from tests.api.test_exports import brought_to, exports_in


@pytest.mark.parametrize("body", [TASKS, PROJECT])
async def test_a_retry_is_a_new_export_of_the_same_request(
    api: Api, caller: httpx.AsyncClient, body: dict[str, object]
) -> None:
    kind = "graph" if "parent" in body else "resource"
    first = (await caller.post(f"/v1/exports/{kind}", json=body | {"labels": {"a": "b"}})).json()
    await brought_to(api, first["id"], Status.RUNNING, Status.FAILED)
    response = await caller.post(f"/v1/exports/{first['id']}/retry")
    again = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/exports/{again['id']}"
    assert again["retry_of"] == first["id"] != again["id"]
    assert [again[name] for name in ("request", "labels", "workspace", "status")] == [
        first["request"],
        {"a": "b"},
        "1001",
        "queued",
    ]
    assert (await caller.get(f"/v1/exports/{first['id']}")).json()["status"] == "failed"


async def test_a_retry_may_be_sent_twice(api: Api, caller: httpx.AsyncClient) -> None:
    first = (await caller.post("/v1/exports/resource", json=TASKS)).json()
    await brought_to(api, first["id"], Status.CANCELED)
    url, headers = f"/v1/exports/{first['id']}/retry", {"Idempotency-Key": "k"}
    one, two = [await caller.post(url, headers=headers) for _ in range(2)]
    assert one.json()["id"] == two.json()["id"]
    assert two.headers["Idempotency-Replayed"] == "true"


async def test_what_has_not_ended_is_not_retried(api: Api, caller: httpx.AsyncClient) -> None:
    first = (await caller.post("/v1/exports/resource", json=TASKS)).json()
    refused = await caller.post(f"/v1/exports/{first['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "not-retryable")
    stranger = await api.caller()
    assert (await stranger.post(f"/v1/exports/{first['id']}/retry")).status_code == 404


async def test_a_plan_tells_the_place_and_writes_nothing(api: Api, caller: httpx.AsyncClient) -> None:
    for _ in range(3):
        await caller.post("/v1/exports/resource", json=other_tasks())
    planned = await caller.post("/v1/exports/plan", json=PROJECT)
    urgent = await caller.post("/v1/exports/plan", json=PROJECT | {"priority": "urgent"})
    assert planned.json() == {
        "lane": "1001",
        "status": "queued",
        "shares_run": None,
        "queue": {"position": 4, "ahead": 3, "eta": None},
    }
    assert urgent.json()["queue"]["position"] == 1
    assert await exports_in(api) == 3


async def test_a_plan_tells_which_run_would_be_shared(api: Api, caller: httpx.AsyncClient) -> None:
    first = (await caller.post("/v1/exports/resource", json=TASKS)).json()
    queued = (await caller.post("/v1/exports/plan", json=TASKS)).json()
    assert (queued["shares_run"], queued["queue"]["ahead"]) == (first["run"]["id"], 0)
    await brought_to(api, first["id"], Status.RUNNING)
    running = (await caller.post("/v1/exports/plan", json=TASKS | {"max_age": 60})).json()
    fresh = (await caller.post("/v1/exports/plan", json=TASKS)).json()
    # It has no job yet, so that nobody knows how old its data will be.
    assert running["shares_run"] is fresh["shares_run"] is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"workspace": "1001"}, "/export_request_parameters"),
        ({"workspace": "x", "parent": "1"}, "/workspace"),
    ],
)
async def test_a_plan_is_refused_like_the_request(
    caller: httpx.AsyncClient, body: dict[str, object], pointer: str
) -> None:
    refused = await caller.post("/v1/exports/plan", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_a_plan_needs_a_grant(api: Api) -> None:
    elsewhere = await api.caller(grants=[GrantSpec(workspace="1002")])
    assert (await elsewhere.post("/v1/exports/plan", json=TASKS)).status_code == 404


async def test_estimates_come_with_five_past_runs(api: Api, caller: httpx.AsyncClient) -> None:
    for _ in range(5):
        export = (await caller.post("/v1/exports/resource", json=other_tasks())).json()
        await brought_to(api, export["id"], Status.RUNNING, Status.ARCHIVING)
    async with api.sessions.begin() as session:
        await session.execute(
            text(
                "UPDATE runs SET status = 'succeeded', finished_at = now(), "
                "slot_freed_at = now() - interval '5 seconds', submitted_at = now() - interval '65 seconds'"
            )
        )
    await caller.post("/v1/exports/resource", json=other_tasks())
    queued = (await caller.post("/v1/exports/resource", json=other_tasks())).json()
    eta = queued["queue"]["eta"]
    assert eta["sample_size"] == 5
    assert (
        queued["created_at"] < eta["start_p50"] <= eta["start_p90"] < eta["finish_p50"] <= eta["finish_p90"]
    )
