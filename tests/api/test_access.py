"""Who may call what: every route of the application against every kind of key."""

import re

import httpx
import pytest
from sqlalchemy import text

from app.access.models import Scope
from app.main import create_app
from tests.api.conftest import TASKS, Api

WRITE, READ, FILES, ADMIN = Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ, Scope.ADMIN
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
    "GET /v1/artifacts/{artifact_id}/content": FILES,
    "GET /v1/workspaces": READ,
    "GET /v1/workspaces/{gid}": READ,
    "PUT /v1/workspaces/{gid}": ADMIN,
    "POST /v1/credentials": ADMIN,
    "GET /v1/credentials": ADMIN,
    "GET /v1/credentials/{credential_id}": ADMIN,
    "PUT /v1/credentials/{credential_id}": ADMIN,
    "GET /healthz": None,
    "GET /readyz": None,
    "GET /problems/{code}": None,
}
GUARDED = {route: scope for route, scope in NEEDS.items() if scope}


def test_every_route_has_its_place_in_the_matrix() -> None:
    paths = create_app().openapi()["paths"]
    assert {f"{method.upper()} {path}" for path in paths for method in paths[path]} == set(NEEDS)


async def call(caller: httpx.AsyncClient, route: str) -> httpx.Response:
    method, path = route.split(" ")
    return await caller.request(method, re.sub(r"{\w+}", "1", path))


@pytest.mark.parametrize("route", GUARDED)
async def test_nothing_is_done_without_a_key(api: Api, route: str) -> None:
    for headers in ({}, {"Authorization": "Bearer aex_1_2"}, {"Authorization": "Basic YTpi"}):
        response = await call(await api.anybody(**headers), route)
        assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
        told = response.headers["WWW-Authenticate"]
        assert told.startswith("Bearer ")
        assert ('error="invalid_token"' in told) is bool(headers)


@pytest.mark.parametrize("route", GUARDED)
@pytest.mark.parametrize("scope", list(Scope))
async def test_a_route_opens_to_its_scope_and_to_administrators_alone(
    api: Api, route: str, scope: Scope
) -> None:
    response = await call(await api.caller(scope), route)
    if scope in {GUARDED[route], ADMIN}:
        assert response.status_code not in {401, 403}
    else:
        assert (response.status_code, response.json()["code"]) == (403, "scope-missing")


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
