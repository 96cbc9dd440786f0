"""Asking for exports over HTTP, and following them."""

import asyncio
from datetime import datetime

import httpx
import pytest
from sqlalchemy import func, select

from app.access.clients import GrantSpec
from app.access.models import Kind, Priority, Scope
from app.exports.models import Export, Phase, Status
from app.exports.states import LIVE, change, locked_run
from app.ids import LaneKey
from app.lanes.enqueue import lock_lane
from app.problems import Code, Problem
from tests.api.conftest import PROJECT, TASKS, Api, other_tasks
from tests.locks import until_somebody_waits


async def exports_in(api: Api) -> int:
    async with api.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Export)) or 0


async def brought_to(api: Api, export_id: str, *path: Status, problem: Problem | None = None) -> None:
    async with api.sessions.begin() as session:
        run = await locked_run(session, (await session.get_one(Export, export_id)).run)
        for status in path:
            phase = Phase.POLLING if status in LIVE else None
            await change(session, run, status, actor="worker", phase=phase, problem=problem)


async def test_an_accepted_export_is_queued_and_says_where_to_look(caller: httpx.AsyncClient) -> None:
    response = await caller.post("/v1/exports/resource", json=TASKS | {"labels": {"team": "bi"}})
    export = response.json()
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/exports/{export['id']}"
    assert response.headers["Retry-After"] == "5"
    assert response.headers["ETag"] == 'W/"v1-0-waiting_for_worker"'
    assert (export["status"], export["kind"], export["workspace"]) == ("queued", "resource", "1001")
    assert export["request"] == TASKS
    assert export["labels"] == {"team": "bi"}
    assert export["queue"] == {"position": 1, "ahead": 0, "eta": None}
    again = (await caller.get(response.headers["Location"])).json()
    assert again | {"latency": None} == export | {"latency": None}


async def test_a_graph_export_needs_a_workspace_and_a_parent(caller: httpx.AsyncClient) -> None:
    export = (await caller.post("/v1/exports/graph", json=PROJECT | {"priority": "high"})).json()
    assert (export["kind"], export["priority"]) == ("graph", "high")
    assert export["request"] == {"parent": "10012001"}


async def test_the_queue_tells_who_goes_first_and_why_one_waits(caller: httpx.AsyncClient) -> None:
    sent = [
        (await caller.post("/v1/exports/resource", json=other_tasks() | {"priority": priority})).json()["id"]
        for priority in ("low", "normal", "urgent", "normal")
    ]
    now = [(await caller.get(f"/v1/exports/{export}")).json() for export in sent]
    assert [export["queue"]["ahead"] for export in now] == [3, 1, 0, 2]
    assert [export["wait_reason"] for export in now] == [
        "behind_others",
        "behind_others",
        "waiting_for_worker",
        "behind_others",
    ]
    listed = (await caller.get("/v1/exports")).json()["items"]
    assert [export["queue"]["ahead"] for export in listed] == [2, 0, 1, 3]


async def test_the_same_moment_has_one_form_whatever_its_offset(caller: httpx.AsyncClient) -> None:
    def body(after: str) -> dict[str, object]:
        filters = {"modified_at.after": after}
        return {
            "workspace": "1001",
            "export_request_parameters": [{"resource_type": "task", "filters": filters}],
        }

    one = await caller.post("/v1/exports/resource", json=body("2026-01-01T00:00:00Z"))
    other = await caller.post("/v1/exports/resource", json=body("2026-01-01T02:00:00+02:00"))
    assert one.json()["request"] == other.json()["request"]


async def test_nothing_changed_is_told_by_304(api: Api, caller: httpx.AsyncClient) -> None:
    export = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    first = await caller.get(f"/v1/exports/{export}")
    seen = f'"v0", {first.headers["ETag"].removeprefix("W/")}'
    again = await caller.get(f"/v1/exports/{export}", headers={"If-None-Match": seen})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    await brought_to(api, export, Status.RUNNING)
    changed = await caller.get(f"/v1/exports/{export}", headers={"If-None-Match": seen})
    assert (changed.status_code, changed.json()["status"]) == (200, "running")
    assert changed.json()["version"] == 2


async def test_another_place_in_the_queue_is_a_change(caller: httpx.AsyncClient) -> None:
    first = (await caller.post("/v1/exports/resource", json=TASKS)).headers["Location"]
    second = await caller.post("/v1/exports/resource", json=other_tasks())
    seen = {"If-None-Match": second.headers["ETag"]}
    assert (await caller.get(second.headers["Location"], headers=seen)).status_code == 304
    await caller.post(first + "/cancel")
    moved = await caller.get(second.headers["Location"], headers=seen)
    assert (moved.status_code, moved.json()["queue"]["position"]) == (200, 1)


async def test_a_failed_export_is_a_good_answer_that_tells_why(api: Api, caller: httpx.AsyncClient) -> None:
    export = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    problem = Problem(Code.UPSTREAM_FAILED, "Asana reported job 1 as failed.")
    await brought_to(api, export, Status.RUNNING, Status.FAILED, problem=problem)
    response = await caller.get(f"/v1/exports/{export}")
    assert response.status_code == 200
    assert "Retry-After" not in response.headers
    assert response.json()["error"]["code"] == "upstream-failed"
    assert (await caller.get(response.json()["error"]["type"])).status_code == 200


async def test_the_timeline_has_who_and_what(caller: httpx.AsyncClient) -> None:
    sent = await caller.post("/v1/exports/resource", json=TASKS, headers={"X-Request-Id": "my-request"})
    (event,) = (await caller.get(sent.headers["Location"] + "/events")).json()["items"]
    assert (event["type"], event["actor"], event["request_id"]) == (
        "export.created",
        "client:caller 1",
        "my-request",
    )


@pytest.mark.parametrize("path", ["", "/events"])
async def test_exports_of_others_do_not_exist(api: Api, caller: httpx.AsyncClient, path: str) -> None:
    location = (await caller.post("/v1/exports/resource", json=TASKS)).headers["Location"]
    stranger = await api.caller()
    foreign = await stranger.get(location + path)
    unknown = await stranger.get("/v1/exports/exp_0" + path)
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.json()["code"] == "not-found"
    assert (await stranger.get("/v1/exports")).json() == {"items": [], "next_page_token": None}
    assert (await (await api.admin()).get(location + path)).status_code == 200


async def test_a_workspace_without_a_grant_does_not_exist(api: Api) -> None:
    elsewhere = await api.caller(grants=[GrantSpec(workspace="1002")])
    graphs_only = await api.caller(grants=[GrantSpec(kinds=(Kind.GRAPH,))])
    for caller in (elsewhere, graphs_only):
        refused = await caller.post("/v1/exports/resource", json=TASKS)
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    unregistered = await elsewhere.post("/v1/exports/resource", json=TASKS | {"workspace": "1002"})
    assert (unregistered.status_code, unregistered.json()["code"]) == (404, "not-found")
    assert (await graphs_only.post("/v1/exports/graph", json=PROJECT)).status_code == 202
    assert await exports_in(api) == 1


async def test_a_grant_caps_the_priority(api: Api) -> None:
    caller = await api.caller(grants=[GrantSpec(highest_priority=Priority.NORMAL)])
    refused = await caller.post("/v1/exports/resource", json=TASKS | {"priority": "high"})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/priority")
    assert (await caller.post("/v1/exports/resource", json=TASKS | {"priority": "low"})).status_code == 202


async def test_pages_hold_every_export_once_though_new_ones_come(caller: httpx.AsyncClient) -> None:
    sent = [(await caller.post("/v1/exports/resource", json=TASKS)).json()["id"] for _ in range(5)]
    first = await caller.get("/v1/exports", params={"page_size": 2})
    await caller.post("/v1/exports/resource", json=TASKS)
    seen, link = [export["id"] for export in first.json()["items"]], first.links["next"]["url"]
    while link:
        page = await caller.get(link)
        seen += [export["id"] for export in page.json()["items"]]
        link = page.links["next"]["url"] if page.json()["next_page_token"] else ""
    assert seen == sent[::-1]


async def test_a_list_can_be_narrowed(api: Api, caller: httpx.AsyncClient) -> None:
    plain = (await caller.post("/v1/exports/resource", json=TASKS)).json()
    graph = (await caller.post("/v1/exports/graph", json=PROJECT | {"labels": {"team": "bi"}})).json()
    await brought_to(api, plain["id"], Status.CANCELED)

    async def found(**params: str) -> list[str]:
        response = await caller.get("/v1/exports", params=params)
        return [export["id"] for export in response.json()["items"]]

    assert (
        await found(kind="graph")
        == await found(status="queued")
        == await found(label="team:bi")
        == [graph["id"]]
    )
    assert await found(status="canceled") == await found(kind="resource") == [plain["id"]]
    assert await found(workspace="1002") == await found(label="team:pm") == []
    assert await found(created_after=plain["created_at"]) == [graph["id"]]
    assert datetime.fromisoformat(plain["created_at"]).tzinfo is not None


@pytest.mark.parametrize("token", ["nonsense", "ZXhwXzA", "!", "é"])
async def test_a_made_up_page_token_is_refused(caller: httpx.AsyncClient, token: str) -> None:
    response = await caller.get("/v1/exports", params={"page_token": token})
    assert (response.status_code, response.json()["code"]) == (400, "bad-page-token")


@pytest.mark.parametrize("query", ["stauts=failed", "page_size=0", "workspace=%00", "created_after=now"])
async def test_a_parameter_that_is_not_understood_is_refused(caller: httpx.AsyncClient, query: str) -> None:
    response = await caller.get(f"/v1/exports?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == f"?{query.partition('=')[0]}"


async def test_a_queued_export_is_canceled_at_once_and_for_good(caller: httpx.AsyncClient) -> None:
    location = (await caller.post("/v1/exports/resource", json=TASKS)).headers["Location"]
    first, again = [await caller.post(location + "/cancel") for _ in range(2)]
    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert again.json() == first.json()


async def test_a_started_export_is_canceling_until_its_job_ends(api: Api, caller: httpx.AsyncClient) -> None:
    sent = await caller.post("/v1/exports/resource", json=TASKS)
    await brought_to(api, sent.json()["id"], Status.RUNNING)
    canceling = await caller.post(sent.headers["Location"] + "/cancel")
    assert (canceling.status_code, canceling.json()["status"]) == (202, "canceling")


async def test_an_export_of_others_is_not_canceled(api: Api, caller: httpx.AsyncClient) -> None:
    location = (await caller.post("/v1/exports/resource", json=TASKS)).headers["Location"]
    refused = await (await api.caller()).post(location + "/cancel")
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    assert (await caller.get(location)).json()["status"] == "queued"


async def test_an_ended_export_cannot_be_canceled(api: Api, caller: httpx.AsyncClient) -> None:
    sent = await caller.post("/v1/exports/resource", json=TASKS)
    await brought_to(api, sent.json()["id"], Status.FAILED)
    refused = await caller.post(sent.headers["Location"] + "/cancel")
    assert (refused.status_code, refused.json()["code"]) == (409, "not-cancelable")


async def test_the_same_key_makes_one_export(api: Api, caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "nightly 2026-11-24"}
    first = await caller.post("/v1/exports/resource", json=TASKS, headers=headers)
    again = await caller.post(
        "/v1/exports/resource", json=dict(reversed(TASKS.items())) | {"priority": "normal"}, headers=headers
    )
    assert again.status_code == 202
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert await exports_in(api) == 1


async def test_a_key_belongs_to_its_client_and_route(api: Api, caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    other = await api.caller()
    answers = [
        await caller.post("/v1/exports/resource", json=TASKS, headers=headers),
        await caller.post("/v1/exports/graph", json=PROJECT, headers=headers),
        await other.post("/v1/exports/resource", json=TASKS, headers=headers),
    ]
    assert len({answer.json()["id"] for answer in answers}) == 3


async def test_a_key_with_another_body_is_refused(api: Api, caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    await caller.post("/v1/exports/resource", json=TASKS, headers=headers)
    refused = await caller.post("/v1/exports/resource", json=TASKS | {"priority": "low"}, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused")
    assert await exports_in(api) == 1


async def test_a_refused_request_does_not_use_up_its_key(caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    unknown = TASKS | {"workspace": "9"}
    assert (await caller.post("/v1/exports/resource", json=unknown, headers=headers)).status_code == 404
    assert (await caller.post("/v1/exports/resource", json=TASKS, headers=headers)).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "caf\xe9"])
async def test_a_key_that_cannot_be_kept_is_refused(caller: httpx.AsyncClient, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    refused = await caller.post("/v1/exports/resource", json=TASKS, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-invalid")


async def test_twins_in_the_same_moment_make_one_export(api: Api, caller: httpx.AsyncClient) -> None:
    places = asyncio.Semaphore(4)

    async def insisted(headers: dict[str, str]) -> httpx.Response:
        """On a busy machine a twin may have to come back."""
        while True:
            answer = await caller.post("/v1/exports/resource", json=TASKS, headers=headers)
            if answer.status_code != 409:
                return answer

    async def twins(number: int) -> None:
        async with places:
            headers = {"Idempotency-Key": f"twin {number}"}
            one, other = await asyncio.gather(insisted(headers), insisted(headers))
        assert (one.status_code, other.status_code) == (202, 202)
        assert one.headers["Location"] == other.headers["Location"]
        assert sorted(answer.headers.get("Idempotency-Replayed", "") for answer in (one, other)) == [
            "",
            "true",
        ]

    await asyncio.gather(*map(twins, range(250)))
    assert await exports_in(api) == 250


async def test_a_twin_that_takes_too_long_is_told_to_come_back(api: Api, caller: httpx.AsyncClient) -> None:
    await caller.post("/v1/exports/resource", json=TASKS)
    headers = {"Idempotency-Key": "slow"}
    async with api.sessions.begin() as session:
        # Somebody else holds the lane: the first twin waits for it, and the second for the first.
        await lock_lane(session, LaneKey("1001"))
        first = asyncio.create_task(caller.post("/v1/exports/resource", json=TASKS, headers=headers))
        await until_somebody_waits(api.sessions)
        second = await caller.post("/v1/exports/resource", json=TASKS, headers=headers)
        assert (second.status_code, second.json()["code"]) == (409, "idempotency-in-progress")
        assert second.headers["Retry-After"] == "1"
    assert (await first).status_code == 202


async def test_a_key_without_the_scope_is_told_which(api: Api) -> None:
    reader = await api.caller(Scope.EXPORTS_READ)
    refused = await reader.post("/v1/exports/resource", json=TASKS)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing")
    assert "exports:write" in refused.json()["detail"]
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
