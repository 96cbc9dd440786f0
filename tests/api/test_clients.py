"""Clients over HTTP: made, changed, given another key and revoked, with a trace of it."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.events.log import Event
from tests.api.conftest import TASKS, Api

BI: dict[str, Any] = {
    "name": "bi",
    "scopes": ["exports:write", "exports:read"],
    "grants": [{"workspace": "1001", "kinds": ["resource"], "highest_priority": "normal"}],
    "max_queued": 2,
    "note": "ticket 17",
}


async def made(admin: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await admin.post("/v1/clients", json=BI | changes)
    assert answer.status_code == 201, answer.text
    client: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/clients/{client['id']}"
    return client


async def test_a_key_is_shown_once(api: Api, admin: httpx.AsyncClient) -> None:
    client = await made(admin)
    bi = await api.with_key(client.pop("key"))
    assert (await bi.post("/v1/exports/resource", json=TASKS)).status_code == 202
    shown = (await admin.get(f"/v1/clients/{client['id']}")).json()
    assert shown.pop("last_used_at")
    assert shown == {name: value for name, value in client.items() if name != "last_used_at"}
    assert shown["grants"][0] == BI["grants"][0] | {"max_queued": None}
    assert "bi" in [each["name"] for each in (await admin.get("/v1/clients")).json()["items"]]


async def test_changes_hold_from_the_next_request_on(api: Api, admin: httpx.AsyncClient) -> None:
    client = await made(admin)
    bi, address = await api.with_key(client["key"]), f"/v1/clients/{client['id']}"
    for change, status in (
        ({"scopes": ["exports:read"]}, 403),
        ({"scopes": ["exports:write"], "grants": [{"workspace": "1002"}]}, 404),
        ({"grants": [{"workspace": "1001", "highest_priority": "low"}]}, 422),
        ({"grants": [{"workspace": "1002"}, {"workspace": "*"}], "max_queued": None}, 202),
    ):
        changed = await admin.patch(address, json=change)
        assert changed.status_code == 200, changed.text
        assert (
            changed.json().items()
            >= {"name": "bi", "scopes": change.get("scopes", ["exports:write"])}.items()
        )
        assert (await bi.post("/v1/exports/resource", json=TASKS)).status_code == status
    assert (await admin.get(address)).json()["max_queued"] is None


async def test_a_revoked_client_is_shut_out_at_once_and_keeps_its_exports(
    api: Api, admin: httpx.AsyncClient
) -> None:
    client = await made(admin)
    bi, address = await api.with_key(client["key"]), f"/v1/clients/{client['id']}"
    export = await bi.post("/v1/exports/resource", json=TASKS)
    for _ in range(2):
        assert (await admin.post(f"{address}/revoke", json={"note": "left"})).json()["revoked_at"]
    assert (await bi.get(export.headers["Location"])).status_code == 401
    assert (await admin.get(export.headers["Location"])).json()["status"] == "queued"
    assert (await admin.get(address)).json()["revoked_at"]


async def test_another_key_shuts_the_old_one_out_and_lets_a_revoked_client_in(
    api: Api, admin: httpx.AsyncClient
) -> None:
    client = await made(admin)
    address = f"/v1/clients/{client['id']}"
    await admin.post(f"{address}/revoke")
    answer = await admin.post(f"{address}/key", json={"note": "back again"})
    assert (answer.status_code, answer.json()["revoked_at"]) == (201, None)
    old, new = await api.with_key(client["key"]), await api.with_key(answer.json()["key"])
    assert (await old.get("/v1/exports")).status_code == 401
    assert (await new.get("/v1/exports")).status_code == 200


async def test_a_name_is_given_once(admin: httpx.AsyncClient) -> None:
    await made(admin)
    other = await made(admin, name="other")
    for answer in (
        await admin.post("/v1/clients", json=BI),
        await admin.patch(f"/v1/clients/{other['id']}", json={"name": "bi"}),
        await admin.patch(f"/v1/clients/{other['id']}", json={"name": "bi", "grants": [{}]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")


async def test_of_two_at_once_one_gets_the_name(admin: httpx.AsyncClient) -> None:
    for number in range(10):
        twins = [admin.post("/v1/clients", json=BI | {"name": f"bi {number}"}) for _ in range(2)]
        assert sorted([answer.status_code for answer in await asyncio.gather(*twins)]) == [201, 409]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["everything", "admin"]}, "/scopes/0"),
        ({"name": " bi"}, "/name"),
        ({"grants": [{"workspace": "1"}, {"workspace": "1"}]}, "/grants"),
        ({"grants": [{"workspace": "x"}]}, "/grants/0/workspace"),
        ({"max_queued": 0}, "/max_queued"),
        ({"max_stored_bytes": 2**63}, "/max_stored_bytes"),
        ({"key": "mine"}, "/key"),
    ],
)
async def test_faults_are_told_and_change_nothing(
    admin: httpx.AsyncClient, change: dict[str, Any], pointer: str
) -> None:
    client = await made(admin)
    address = f"/v1/clients/{client['id']}"
    for answer in (
        await admin.post("/v1/clients", json=BI | {"name": "another"} | change),
        await admin.patch(address, json=change),
    ):
        assert answer.status_code == 422
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert (await admin.get(address)).json().items() <= client.items()


@pytest.mark.parametrize("field", ["name", "scopes", "grants"])
async def test_what_a_client_must_have_cannot_be_taken_away(admin: httpx.AsyncClient, field: str) -> None:
    client = await made(admin)
    assert (await admin.patch(f"/v1/clients/{client['id']}", json={field: None})).status_code == 422


async def test_every_act_leaves_a_trace(api: Api, admin: httpx.AsyncClient) -> None:
    client = await made(admin)
    address = f"/v1/clients/{client['id']}"
    await admin.patch(address, json={"max_queued": 5, "note": "more"}, headers={"X-Request-Id": "r-1"})
    await admin.post(f"{address}/key")
    await admin.post(f"{address}/revoke", json={"note": "left"})
    async with api.sessions() as session:
        events = (await session.scalars(select(Event).where(Event.type.like("client.%")))).all()
    traces = [event for event in events if event.data["client"] == client["id"]]
    assert [event.type for event in traces] == [
        "client.created",
        "client.changed",
        "client.key_replaced",
        "client.revoked",
    ]
    assert {event.actor for event in traces} == {api.tenant.client.actor}
    assert [event.data.get("note") for event in traces] == ["ticket 17", "more", None, "left"]
    assert traces[1].request_id == "r-1"
    assert traces[1].data["max_queued"] == 5


async def test_an_unknown_client_is_not_found(admin: httpx.AsyncClient) -> None:
    address = f"/v1/clients/cli_{0:032d}"
    for answer in (
        await admin.get(address),
        await admin.patch(address, json={}),
        await admin.post(f"{address}/revoke"),
        await admin.post(f"{address}/key"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
