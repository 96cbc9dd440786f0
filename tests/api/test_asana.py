"""The part of the API that is spoken to as Asana is: jobs, their errors, and what of them is shown."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from app.access.clients import GrantSpec
from app.access.models import Kind, Scope
from app.exports.jobs import JobGid
from app.exports.models import Export, Status
from tests.api.conftest import TASKS, Api, code_of
from tests.api.test_clients import made
from tests.api.test_exports import brought_to
from tests.api.test_limits import succeeded

RESOURCE: dict[str, Any] = {"data": TASKS}
GRAPH: dict[str, Any] = {"data": {"parent": "10012001"}}
CSV = "status,this.new_graph_export.(completed_at|created_at)"


async def started(caller: httpx.AsyncClient, body: dict[str, Any] = GRAPH, **how: Any) -> dict[str, Any]:
    kind = "graph" if "parent" in body["data"] else "resource"
    answer = await caller.post(f"/api/1.0/exports/{kind}", json=body, **how)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()["data"]
    assert answer.headers["Location"] == f"/api/1.0/jobs/{job['gid']}"
    return job


async def looked_at(caller: httpx.AsyncClient, job: dict[str, Any], **how: Any) -> dict[str, Any]:
    answer = await caller.get(f"/api/1.0/jobs/{job['gid']}", params=how)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def export_of(api: Api, job: dict[str, Any]) -> str:
    async with api.sessions() as session:
        found = await session.scalar(select(JobGid.export).where(JobGid.gid == int(job["gid"])))
    assert found
    return found


def told(answer: httpx.Response) -> list[str]:
    """The messages of an error, whose help leads to the page of our code."""
    (helped,) = {error["help"] for error in answer.json()["errors"]}
    assert helped.endswith(f" See /problems/{code_of(answer)}.")
    assert answer.headers["Content-Type"] == "application/json; charset=UTF-8"
    assert set(answer.json()) == {"errors"}
    return [error["message"] for error in answer.json()["errors"]]


@pytest.mark.parametrize(
    ("body", "subtype", "made", "type_made"),
    [
        (GRAPH, "graph_export_request", "new_graph_export", "graph_export"),
        (RESOURCE, "export_request", "new_resource_export", "export_request"),
    ],
)
async def test_an_export_is_a_job_with_asanas_fields(
    api: Api, caller: httpx.AsyncClient, body: dict[str, Any], subtype: str, made: str, type_made: str
) -> None:
    job = await started(caller, body)
    assert job == {
        "gid": job["gid"],
        "resource_type": "job",
        "resource_subtype": subtype,
        "status": "not_started",
        made: {
            "gid": job[made]["gid"],
            "resource_type": type_made,
            "created_at": job[made]["created_at"],
            "completed_at": None,
            "download_url": None,
        },
    }
    assert job["gid"] != job[made]["gid"]
    assert all(gid.isdecimal() and int(gid) < 2**63 for gid in (job["gid"], job[made]["gid"]))
    assert len(job[made]["created_at"]) == len("2026-01-02T03:04:05.678Z")
    assert await looked_at(caller, job) == job
    listed = (await caller.get("/v1/exports")).json()["items"]
    assert [export["id"] for export in listed] == [await export_of(api, job)]


WAYS = [
    ((Status.RUNNING,), "in_progress"),
    ((Status.RUNNING, Status.CANCELING), "in_progress"),
    ((Status.RUNNING, Status.CANCELING, Status.CANCELED), "failed"),
    ((Status.RUNNING, Status.ARCHIVING), "in_progress"),
    ((Status.RUNNING, Status.FAILED), "failed"),
]


@pytest.mark.parametrize(("way", "status"), WAYS)
async def test_a_status_is_one_of_asanas_four(
    api: Api, caller: httpx.AsyncClient, way: tuple[Status, ...], status: str
) -> None:
    job = await started(caller)
    await brought_to(api, await export_of(api, job), *way)
    found = await looked_at(caller, job)
    assert found["status"] == status
    assert found["new_graph_export"]["download_url"] is None
    assert bool(found["new_graph_export"]["completed_at"]) is (status == "failed")


async def test_fields_are_chosen_in_the_query_and_in_options(caller: httpx.AsyncClient) -> None:
    options = {"fields": ["status", "this.new_graph_export"], "pretty": True}
    answer = await caller.post("/api/1.0/exports/graph", json=GRAPH | {"options": options})
    job = answer.json()["data"]
    assert answer.text.startswith('{\n  "data": {\n')
    assert set(job) == {"gid", "status", "new_graph_export"}
    assert job["new_graph_export"] == {
        "gid": job["new_graph_export"]["gid"],
        "resource_type": "graph_export",
    }
    assert set((await looked_at(caller, job, opt_fields=CSV))["new_graph_export"]) == {
        "gid",
        "created_at",
        "completed_at",
    }
    assert set(await looked_at(caller, job, opt_fields="['status', 'nothing']")) == {"gid", "status"}
    for yes in ("True", "true", ""):
        answer = await caller.get(f"/api/1.0/jobs/{job['gid']}?opt_pretty={yes}")
        assert answer.text.startswith('{\n  "data": {\n')


async def test_a_host_that_ends_with_a_slash_works(caller: httpx.AsyncClient) -> None:
    answer = await caller.post("/api/1.0//exports/graph", json=GRAPH)
    assert answer.status_code == 201
    assert (await caller.get(f"/api/1.0//jobs/{answer.json()['data']['gid']}")).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["", "/", "/tasks", "/exports/graph/1", "/jobs/1/nothing"])
async def test_there_is_nothing_else(caller: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await caller.request(method, f"/api/1.0{path}")
    assert (answer.status_code, told(answer)) == (404, ["No matching route"])


async def test_a_wrong_method_is_no_route(caller: httpx.AsyncClient) -> None:
    for method, path in (("GET", "exports/graph"), ("DELETE", "jobs/1"), ("POST", "jobs/1")):
        answer = await caller.request(method, f"/api/1.0/{path}")
        assert (answer.status_code, told(answer)) == (404, ["No matching route"])


async def test_nobody_is_told_nothing_but_that(api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer aex_1_2"}):
        nobody = await api.anybody(**headers)
        answer = await nobody.post("/api/1.0/exports/graph", json=GRAPH)
        assert (answer.status_code, told(answer)) == (401, ["Not Authorized"])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_each_fault_has_an_entry(caller: httpx.AsyncClient) -> None:
    team = {"resource_type": "team", "filters": {"assignee.any": ["12x"], "nonsense": 1}}
    answer = await caller.post(
        "/api/1.0/exports/resource",
        json={"data": {"export_request_parameters": [team, {"resource_type": "tag"}], "x": 1}},
    )
    assert (answer.status_code, code_of(answer)) == (400, "validation-failed")
    assert told(answer) == [
        "export_request_parameters.0.filters.assignee.any: Asana does not support filters for teams",
        "export_request_parameters.0.filters.assignee.any.0: String should match pattern '^[0-9]{1,20}$'",
        "export_request_parameters.0.filters.nonsense: Extra inputs are not permitted",
        "export_request_parameters.1.resource_type: Input should be 'task', 'team' or 'message'",
        "workspace: Missing input",
        "x: Extra inputs are not permitted",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Could not parse request data, invalid JSON"),
        (b"{}", "data: Missing input"),
        (b'{"data": {}}', "parent: Missing input"),
        (b'{"data": {"parent": "1", "parents": "2"}}', "parents: Extra inputs are not permitted"),
        (b'{"data": {"parent": true}}', "parent: Input should be a valid string"),
    ],
)
async def test_a_body_that_is_none_is_told_so(caller: httpx.AsyncClient, body: bytes, message: str) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    answer = await caller.post("/api/1.0/exports/graph", content=body, headers=headers)
    assert (answer.status_code, told(answer)) == (400, [message])


async def test_a_gid_may_be_a_number(caller: httpx.AsyncClient) -> None:
    assert await started(caller, {"data": TASKS | {"workspace": 1001}})
    assert await started(caller, {"data": {"parent": 10012001, "workspace": 1001}})


async def test_a_job_is_its_clients_alone(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    job = await started(caller)
    other = await api.caller()
    for stranger in (other, admin):
        answer = await stranger.get(f"/api/1.0/jobs/{job['gid']}")
        assert (answer.status_code, told(answer)) == (404, [f"job: Unknown object: {job['gid']}"])
    for gid in ("123", str(2**63 - 1), "9" * 20):
        answer = await caller.get(f"/api/1.0/jobs/{gid}")
        assert (answer.status_code, told(answer)) == (404, [f"job: Unknown object: {gid}"])
    assert (await caller.get("/api/1.0/jobs/abc")).status_code == 400


async def test_what_is_not_granted_does_not_exist(api: Api) -> None:
    stranger = await api.caller(grants=[GrantSpec(workspace="1001", kinds=(Kind.GRAPH,))])
    for body in (RESOURCE, {"data": TASKS | {"workspace": "7777"}}):
        answer = await stranger.post("/api/1.0/exports/resource", json=body)
        gid = body["data"]["workspace"]
        assert (answer.status_code, told(answer)) == (404, [f"workspace: Unknown object: {gid}"])
    reader = await api.caller(Scope.EXPORTS_READ)
    refused = await reader.post("/api/1.0/exports/graph", json=GRAPH)
    assert (refused.status_code, code_of(refused)) == (403, "scope-missing")


async def test_the_same_parent_is_the_same_job_until_it_has_ended(
    api: Api, caller: httpx.AsyncClient
) -> None:
    jobs = await asyncio.gather(*(started(caller) for _ in range(10)))
    assert len({job["gid"] for job in jobs}) == 1
    assert (await started(caller, {"data": {"parent": "10012002"}}))["gid"] != jobs[0]["gid"]
    assert (await started(await api.caller()))["gid"] != jobs[0]["gid"]
    async with api.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Export)) == 3
    await brought_to(api, await export_of(api, jobs[0]), Status.RUNNING, Status.FAILED)
    assert (await started(caller))["gid"] != jobs[0]["gid"]


async def test_a_job_that_is_given_up_is_nobodys(api: Api, caller: httpx.AsyncClient) -> None:
    job = await started(caller)
    await brought_to(api, await export_of(api, job), Status.RUNNING, Status.CANCELING)
    assert (await started(caller))["gid"] != job["gid"]


async def test_an_export_asked_for_elsewhere_is_no_job(caller: httpx.AsyncClient) -> None:
    body = {"workspace": "1001", "parent": "10012001"}
    mine = (await caller.post("/v1/exports/graph", json=body)).json()["id"]
    await started(caller)
    listed = (await caller.get("/v1/exports")).json()["items"]
    assert [export["id"] == mine for export in listed] == [False, True]


async def test_a_key_sent_again_is_answered_with_its_job(caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "tonight"}
    first = await started(caller, RESOURCE, headers=headers)
    again = await caller.post("/api/1.0/exports/resource", json=RESOURCE, headers=headers)
    assert (again.json()["data"], again.headers["Idempotency-Replayed"]) == (first, "true")
    other = await caller.post(
        "/api/1.0/exports/resource", json={"data": TASKS | {"priority": "low"}}, headers=headers
    )
    assert (other.status_code, code_of(other)) == (400, "idempotency-key-reused")
    # What else the key was sent with is none of its business.
    assert (await caller.post("/v1/exports/resource", json=TASKS, headers=headers)).status_code == 202


async def test_quotas_and_drains_hold_here_too(api: Api, admin: httpx.AsyncClient) -> None:
    grants = [{"workspace": "1001"}]
    caller = await api.with_key((await made(admin, max_queued=1, grants=grants))["key"])
    answer = await caller.post("/api/1.0/exports/resource", json=RESOURCE)
    assert '"queued";r=0' in answer.headers["RateLimit"]
    refused = await caller.post("/api/1.0/exports/resource", json=RESOURCE)
    assert (refused.status_code, code_of(refused)) == (429, "quota-exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    await admin.post("/v1/workspaces/1001/lane/drain")
    drained = await (await api.caller()).post("/api/1.0/exports/resource", json=RESOURCE)
    assert (drained.status_code, code_of(drained)) == (503, "lane-draining")
    assert int(drained.headers["Retry-After"]) > 0


async def test_how_it_is_to_be_treated_may_stand_beside(api: Api, caller: httpx.AsyncClient) -> None:
    job = await started(caller, {"data": TASKS | {"priority": "high", "labels": {"team": "bi"}}})
    export = (await caller.get(f"/v1/exports/{await export_of(api, job)}")).json()
    assert (export["priority"], export["labels"]) == ("high", {"team": "bi"})


async def test_a_mistake_of_ours_is_a_500_that_names_the_request(api: Api, caller: httpx.AsyncClient) -> None:
    job = await started(caller)
    await succeeded(api, await export_of(api, job), b"x" * 20)
    url = (await looked_at(caller, job))["new_graph_export"]["download_url"]
    async for entry in api.services.store.files():
        await api.services.store.delete(entry.key)
    answer = await (await api.anybody(**{"X-Request-Id": "the-request"})).get(url)
    assert (answer.status_code, code_of(answer)) == (500, "artifact-missing")
    assert answer.json()["errors"][0]["phrase"] == "the-request"
