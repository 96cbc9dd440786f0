"""Who may call what: every route of the application against every kind of key."""

import re
from itertools import product
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.access.clients import GrantSpec
from app.access.models import Kind, Priority, Scope
from app.main import create_app
from tests.api.conftest import NIGHTLY, PROJECT, TASKS, Api, code_of

WRITE, READ, FILES = Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ
LANES, ADMIN = Scope.LANES_ADMIN, Scope.ADMIN
# The scope each route needs; None for none. A route that is not here fails the tests.
NEEDS: dict[str, Scope | None] = {
    "POST /v1/exports/resource": WRITE,
    "POST /v1/exports/graph": WRITE,
    "GET /v1/exports": READ,
    "GET /v1/exports/{export_id}": READ,
    "POST /v1/exports/plan": READ,
    "POST /v1/exports/{export_id}/cancel": WRITE,
    "POST /v1/exports/{export_id}/retry": WRITE,
    "GET /v1/exports/{export_id}/events": READ,
    "GET /v1/events": READ,
    "GET /v1/exports/{export_id}/manifest": READ,
    "GET /v1/exports/{export_id}/receipt": READ,
    "GET /v1/artifacts/{artifact_id}/content": FILES,
    "POST /v1/artifacts/{artifact_id}/outputs": FILES,
    "GET /v1/artifacts/{artifact_id}/outputs": FILES,
    "GET /v1/artifacts/{artifact_id}/outputs/{format}": FILES,
    "GET /v1/artifacts/{artifact_id}/outputs/{format}/{output_id}/content": FILES,
    "DELETE /v1/artifacts/{artifact_id}": WRITE,
    "PUT /v1/artifacts/{artifact_id}/hold": ADMIN,
    "DELETE /v1/artifacts/{artifact_id}/hold": ADMIN,
    "POST /v1/artifacts/{artifact_id}/refetch": FILES,
    "GET /v1/artifacts/{artifact_id}/refetch": FILES,
    "POST /v1/schedules": WRITE,
    "GET /v1/schedules": READ,
    "POST /v1/schedules/preview": READ,
    "GET /v1/schedules/{schedule_id}": READ,
    "PUT /v1/schedules/{schedule_id}": WRITE,
    "DELETE /v1/schedules/{schedule_id}": WRITE,
    "POST /v1/schedules/{schedule_id}/pause": WRITE,
    "POST /v1/schedules/{schedule_id}/resume": WRITE,
    "GET /v1/schedules/{schedule_id}/preview": READ,
    "POST /api/1.0/exports/resource": WRITE,
    "POST /api/1.0/exports/graph": WRITE,
    "GET /api/1.0/jobs/{job_gid}": READ,
    # Signed.
    "GET /api/1.0/jobs/{job_gid}/content": None,
    "GET /v1/workspaces": READ,
    "GET /v1/workspaces/{gid}": READ,
    "PUT /v1/workspaces/{gid}": ADMIN,
    "DELETE /v1/workspaces/{gid}": ADMIN,
    "GET /v1/workspaces/{gid}/lane": READ,
    "POST /v1/workspaces/{gid}/lane/pause": LANES,
    "POST /v1/workspaces/{gid}/lane/drain": LANES,
    "POST /v1/workspaces/{gid}/lane/resume": LANES,
    "GET /v1/attention": LANES,
    "POST /v1/attention/{item_id}/acknowledge": LANES,
    "POST /v1/clients": ADMIN,
    "GET /v1/clients": ADMIN,
    "GET /v1/clients/{client_id}": ADMIN,
    "PATCH /v1/clients/{client_id}": ADMIN,
    "POST /v1/clients/{client_id}/revoke": ADMIN,
    "POST /v1/clients/{client_id}/key": ADMIN,
    "POST /v1/credentials": ADMIN,
    "GET /v1/credentials": ADMIN,
    "GET /v1/credentials/{credential_id}": ADMIN,
    "PUT /v1/credentials/{credential_id}": ADMIN,
    "GET /metrics": Scope.METRICS_READ,
    "POST /v1/webhook-endpoints": READ,
    "GET /v1/webhook-endpoints": READ,
    "GET /v1/webhook-endpoints/{endpoint_id}": READ,
    "PATCH /v1/webhook-endpoints/{endpoint_id}": READ,
    "DELETE /v1/webhook-endpoints/{endpoint_id}": READ,
    "POST /v1/webhook-endpoints/{endpoint_id}/rotate-secret": READ,
    "GET /v1/webhook-endpoints/{endpoint_id}/deliveries": READ,
    "POST /v1/webhook-endpoints/{endpoint_id}/replay": READ,
    "POST /v1/webhook-endpoints/{endpoint_id}/test": READ,
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /problems/{code}": None,
    "GET /.well-known/jwks.json": None,
}
GUARDED = {route: scope for route, scope in NEEDS.items() if scope}


def test_every_route_has_its_place_in_the_matrix() -> None:
    paths = create_app().openapi()["paths"]
    assert {f"{method.upper()} {path}" for path in paths for method in paths[path]} == set(NEEDS)


async def call(caller: httpx.AsyncClient, route: str) -> httpx.Response:
    method, path = route.split(" ")
    return await caller.request(method, re.sub(r"{\w+}", "1", path))


async def test_nothing_is_done_without_a_key(api: Api, subtests: pytest.Subtests) -> None:
    for headers in ({}, {"Authorization": "Bearer aex_1_2"}, {"Authorization": "Basic YTpi"}):
        caller = await api.anybody(**headers)
        for route in GUARDED:
            with subtests.test(route, **headers):
                response = await call(caller, route)
                assert (response.status_code, code_of(response)) == (401, "unauthenticated")
                told = response.headers["WWW-Authenticate"]
                assert told.startswith("Bearer ")
                assert ('error="invalid_token"' in told) is bool(headers)


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_route_opens_to_its_scope_and_to_administrators_alone(
    api: Api, scope: Scope, subtests: pytest.Subtests
) -> None:
    caller = await api.caller(scope)
    for route in GUARDED:
        with subtests.test(route):
            response = await call(caller, route)
            if scope in {GUARDED[route], ADMIN}:
                assert response.status_code not in {401, 403}
            else:
                assert (response.status_code, code_of(response)) == (403, "scope-missing")


# What each route says that is about a workspace the client has no grant for, though all else is right.
NO_GRANT = [GrantSpec(workspace="1002")]
WRONG_KIND = [GrantSpec(workspace="1001", kinds=(Kind.GRAPH,)), GrantSpec(workspace="1002")]
ABOUT_A_WORKSPACE: dict[str, dict[str, Any] | None] = {
    "POST /v1/exports/resource": TASKS,
    "POST /v1/exports/graph": PROJECT,
    "POST /v1/exports/plan": TASKS,
    "POST /v1/schedules": NIGHTLY,
    "POST /api/1.0/exports/resource": {"data": TASKS},
    "POST /api/1.0/exports/graph": {"data": PROJECT},
    "GET /v1/workspaces/{gid}": None,
    "GET /v1/workspaces/{gid}/lane": None,
    "POST /v1/workspaces/{gid}/lane/pause": {},
    "POST /v1/workspaces/{gid}/lane/drain": {},
    "POST /v1/workspaces/{gid}/lane/resume": {},
}


def test_every_route_that_names_a_workspace_has_its_place_in_the_matrix_of_grants() -> None:
    named = {route for route, scope in GUARDED.items() if "{gid}" in route and scope is not ADMIN}
    assert named <= set(ABOUT_A_WORKSPACE)


@pytest.mark.parametrize("route", ABOUT_A_WORKSPACE)
async def test_what_is_not_granted_does_not_exist(api: Api, route: str) -> None:
    method, path = route.replace("{gid}", "1001").split(" ")
    scope, body = GUARDED[route], ABOUT_A_WORKSPACE[route]
    stranger = await api.caller(scope, grants=NO_GRANT)
    known = await api.caller(scope, grants=[GrantSpec(workspace="1001")])
    refused = await stranger.request(method, path, json=body)
    assert (refused.status_code, code_of(refused)) == (404, "not-found")
    unknown = await known.request(method, path.replace("1001", "7777"), json=elsewhere(body))
    assert unknown.status_code == 404
    assert told(unknown).replace("7777", "1001") == told(refused)
    assert (await known.request(method, path, json=body)).status_code in {200, 201, 202}


def told(refused: httpx.Response) -> str:
    """All that is said, but for the request's id."""
    return str({name: value for name, value in refused.json().items() if name != "request_id"})


def elsewhere(body: dict[str, Any] | None) -> dict[str, Any] | None:
    for name in ("export", "data"):
        if body and name in body:
            return body | {name: elsewhere(body[name])}
    return body | {"workspace": "7777"} if body else body


async def test_a_grant_is_for_kinds_too(api: Api) -> None:
    caller = await api.caller(WRITE, grants=WRONG_KIND)
    assert (await caller.post("/v1/exports/resource", json=TASKS)).status_code == 404
    assert (await caller.post("/v1/exports/graph", json=PROJECT)).status_code == 202


@pytest.mark.parametrize(("highest", "asked"), [*product(Priority, Priority)])
async def test_a_grant_caps_the_priority(api: Api, highest: Priority, asked: Priority) -> None:
    caller = await api.caller(WRITE, grants=[GrantSpec(workspace="1001", highest_priority=highest)])
    answer = await caller.post("/v1/exports/resource", json=TASKS | {"priority": asked})
    assert answer.status_code == (202 if asked.rank >= highest.rank else 422)


async def test_the_lists_hold_what_is_granted(api: Api) -> None:
    for grants, seen in (([GrantSpec(workspace="1001")], ["1001"]), (NO_GRANT, []), ([], [])):
        caller = await api.caller(READ, grants=grants)
        listed = (await caller.get("/v1/workspaces")).json()["items"]
        assert [workspace["gid"] for workspace in listed] == seen


async def test_others_exports_do_not_exist(api: Api, caller: httpx.AsyncClient) -> None:
    mine = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    other = await api.caller()
    for route in NEEDS:
        if "{export_id}" in route:
            method, path = route.replace("{export_id}", mine).split(" ")
            assert (await other.request(method, path)).status_code == 404
    assert (await other.get("/v1/exports")).json()["items"] == []


async def test_others_schedules_do_not_exist(api: Api, caller: httpx.AsyncClient) -> None:
    mine = (await caller.post("/v1/schedules", json=NIGHTLY)).json()["id"]
    other = await api.caller()
    for route in NEEDS:
        if "{schedule_id}" in route:
            method, path = route.replace("{schedule_id}", mine).split(" ")
            body = NIGHTLY if method == "PUT" else None
            assert (await other.request(method, path, json=body)).status_code == 404
    assert (await other.get("/v1/schedules")).json()["items"] == []


async def test_others_webhook_endpoints_do_not_exist(api: Api, caller: httpx.AsyncClient) -> None:
    made = await caller.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.com/"})
    mine = made.json()["id"]
    other = await api.caller()
    for route in NEEDS:
        if "{endpoint_id}" in route:
            method, path = route.replace("{endpoint_id}", mine).split(" ")
            body = {"since": "2026-01-01T00:00:00Z"} if path.endswith("replay") else {}
            sent = None if method in {"GET", "DELETE"} else body
            assert (await other.request(method, path, json=sent)).status_code == 404, route
    assert (await other.get("/v1/webhook-endpoints")).json()["items"] == []
    seen = (await (await api.admin()).get("/v1/webhook-endpoints")).json()["items"]
    assert [endpoint["id"] for endpoint in seen] == [mine]


async def test_a_revoked_key_is_refused_at_once(api: Api, caller: httpx.AsyncClient) -> None:
    assert (await caller.get("/v1/exports")).status_code == 200
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE clients SET revoked_at = now() WHERE name = 'caller 1'"))
    assert (await caller.get("/v1/exports")).status_code == 401


async def test_last_use_is_noted(api: Api, caller: httpx.AsyncClient) -> None:
    used = text("SELECT last_used_at FROM clients WHERE name = 'caller 1'")
    async with api.sessions() as session:
        assert await session.scalar(used) is None
    await caller.post("/v1/exports/resource", json=TASKS)
    async with api.sessions() as session:
        assert await session.scalar(used) is not None
