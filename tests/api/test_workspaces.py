"""Which workspaces can be exported, and by which credential."""

import asyncio

import httpx

from app.access.clients import GrantSpec
from app.sandbox.control import SandboxControl
from tests.api.conftest import TASKS, Api


async def test_a_workspace_is_registered_once_asana_has_shown_it(api: Api, admin: httpx.AsyncClient) -> None:
    body = {"credential": api.tenant.credential}
    first = await admin.put("/v1/workspaces/1002", json=body)
    again = await admin.put("/v1/workspaces/1002", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.json()["name"], first.json()["credential"]) == ("Sandbox 1002", api.tenant.credential)
    assert (await admin.get(first.headers["Location"])).json() == again.json()


async def test_of_two_who_register_it_at_once_one_is_told_that_it_is_new(
    api: Api, admin: httpx.AsyncClient
) -> None:
    body = {"credential": api.tenant.credential}
    answers = await asyncio.gather(*(admin.put("/v1/workspaces/1002", json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]


async def test_a_workspace_that_the_credential_does_not_open_is_refused(
    api: Api, admin: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    sandbox.add_token("narrow-token", "narrow", workspaces=["1001"])
    narrow = await admin.post("/v1/credentials", json={"name": "narrow", "token": "narrow-token"})
    for gid, credential in {"1002": narrow.json()["id"], "9999": api.tenant.credential}.items():
        refused = await admin.put(f"/v1/workspaces/{gid}", json={"credential": credential})
        assert (refused.status_code, refused.json()["code"]) == (422, "workspace-refused")
    assert (await admin.get("/v1/workspaces/1002")).status_code == 404


async def test_a_revoked_token_registers_nothing(
    api: Api, admin: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    sandbox.revoke_token("service")
    refused = await admin.put("/v1/workspaces/1002", json={"credential": api.tenant.credential})
    assert (refused.status_code, refused.json()["code"]) == (422, "credential-refused")


async def test_an_unknown_credential_registers_nothing(admin: httpx.AsyncClient) -> None:
    refused = await admin.put("/v1/workspaces/1002", json={"credential": f"cred_{0:032d}"})
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")


async def test_callers_see_the_workspaces_they_have_a_grant_for(api: Api, admin: httpx.AsyncClient) -> None:
    await admin.put("/v1/workspaces/1002", json={"credential": api.tenant.credential})
    one, all_of_them = (
        await api.caller(grants=[GrantSpec(workspace=gid) for gid in ("1002", "1003")]),
        await api.caller(),
    )

    async def seen(caller: httpx.AsyncClient) -> list[str]:
        return [workspace["gid"] for workspace in (await caller.get("/v1/workspaces")).json()["items"]]

    assert await seen(one) == ["1002"]
    assert await seen(all_of_them) == await seen(admin) == ["1001", "1002"]
    assert (await one.get("/v1/workspaces/1001")).status_code == 404
    assert (await one.get("/v1/workspaces/1002")).status_code == 200


async def test_a_removed_workspace_takes_no_exports_and_keeps_what_it_has(
    api: Api, admin: httpx.AsyncClient, caller: httpx.AsyncClient
) -> None:
    queued = await caller.post("/v1/exports/resource", json=TASKS)
    assert (await admin.delete("/v1/workspaces/1001", params={"note": "sold"})).status_code == 204
    assert (await admin.delete("/v1/workspaces/1001")).status_code == 404
    assert (await caller.post("/v1/exports/resource", json=TASKS)).status_code == 404
    assert (await caller.get("/v1/workspaces")).json()["items"] == []
    assert (await caller.get(queued.headers["Location"])).json()["status"] == "queued"
    put = await admin.put("/v1/workspaces/1001", json={"credential": api.tenant.credential})
    assert put.status_code == 201
    assert (await caller.post("/v1/exports/resource", json=TASKS)).status_code == 202
