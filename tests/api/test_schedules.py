"""Schedules over HTTP: made, seen, changed, paused and ended by whose they are."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text

from app.access.clients import GrantSpec
from app.access.models import Priority, Scope
from app.events.log import Event
from app.exports.accept import Rules
from app.exports.firing import due_schedules, fire
from app.exports.models import Export
from tests.api.conftest import NIGHTLY, PROJECT, TASKS, Api
from tests.api.test_limits import succeeded
from tests.test_pages import ROOT, TOUR, part, typed

DOCS = ROOT / "docs" / "schedules.md"
CHANGED: dict[str, Any] = TASKS | {
    "export_request_parameters": [
        {"resource_type": "task", "filters": {"modified_at.after": {"since": "last_success"}}}
    ]
}


async def made(caller: httpx.AsyncClient, **how: Any) -> dict[str, Any]:
    answer = await caller.post("/v1/schedules", json=NIGHTLY | how)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/v1/schedules/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


async def fired(api: Api) -> Export:
    """The one schedule, as if it were due."""
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE schedules SET next_slot = now(), fires_at = now()"))
    now = datetime.now(UTC) + timedelta(seconds=1)
    async with api.sessions.begin() as session:
        (due,) = await due_schedules(session, now)
        export = await fire(session, due, Rules(), now)
    assert export
    return export


async def events_of(api: Api, schedule: str) -> list[tuple[str, str]]:
    async with api.sessions() as session:
        events = await session.scalars(
            select(Event).where(Event.data["schedule"].astext == schedule).order_by(Event.seq)
        )
        return [(event.type, event.data.get("note", "")) for event in events]


async def test_a_schedule_is_made_and_seen(caller: httpx.AsyncClient) -> None:
    shown = await made(caller, timezone="Europe/Berlin", jitter=300, catch_up="latest")
    slot = datetime.fromisoformat(shown["next_slot"])
    assert slot > datetime.now(UTC)
    assert slot <= datetime.fromisoformat(shown["next_at"]) <= slot + timedelta(seconds=300)
    assert shown["export"] == TASKS | {"priority": "normal", "labels": {}, "max_age": 0}
    assert (shown["watermark"], shown["last_export"], shown["skips"]) == (None, None, 0)
    assert (await caller.get(f"/v1/schedules/{shown['id']}")).json() == shown
    assert (await caller.get("/v1/schedules")).json() == {"items": [shown]}


async def test_a_schedule_is_made_once_by_one_key(caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    first = await caller.post("/v1/schedules", json=NIGHTLY, headers=headers)
    await caller.post(f"/v1/schedules/{first.json()['id']}/pause")
    again = await caller.post("/v1/schedules", json=NIGHTLY | {"jitter": 0}, headers=headers)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert (first.json()["paused_at"], again.json()["paused_at"] is None) == (None, False)
    other = await caller.post("/v1/schedules", json=NIGHTLY | {"jitter": 1}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    # A request that is refused does not use up its key.
    for name, status in ((NIGHTLY["name"], 409), ("another", 201)):
        spec = NIGHTLY | {"name": name}
        answer = await caller.post("/v1/schedules", json=spec, headers={"Idempotency-Key": "other"})
        assert answer.status_code == status
    assert len((await caller.get("/v1/schedules")).json()["items"]) == 2


async def test_a_graph_can_be_scheduled_too(caller: httpx.AsyncClient) -> None:
    assert (await made(caller, export=PROJECT))["export"]["parent"] == PROJECT["parent"]


async def test_all_faults_are_told_at_once(caller: httpx.AsyncClient) -> None:
    body = {
        "name": "",
        "cron": "every day",
        "timezone": "Mars/Olympus",
        "jitter": -1,
        "catch_up": "all",
        "export": {
            "workspace": "x",
            "priority": "asap",
            "deliver_by": "2030-01-01T00:00:00Z",
            "export_request_parameters": [
                {"resource_type": "team", "filters": {"modified_at.after": {"since": "last_success"}}},
                {"resource_type": "task", "filters": {"modified_at.after": {"since": "ever"}}},
                {"resource_type": "task", "filters": {"created_at.after": {"relative": "1h"}}},
                {"resource_type": "task", "filters": {"created_at.after": "yesterday"}},
            ],
        },
    }
    refused = await caller.post("/v1/schedules", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation-failed")
    items = "/export/export_request_parameters"
    assert {fault["pointer"] for fault in refused.json()["errors"]} == {
        "/name",
        "/cron",
        "/timezone",
        "/jitter",
        "/catch_up",
        "/export/workspace",
        "/export/priority",
        "/export/deliver_by",
        f"{items}/0/filters/modified_at.after",
        f"{items}/1/filters/modified_at.after/since",
        f"{items}/2/filters/created_at.after/relative",
        f"{items}/3/filters/created_at.after",
    }


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"cron": "0 0 * * * *"}, "/cron"),
        ({"cron": "@daily"}, "/cron"),
        ({"cron": "0 0 31 2 *"}, "/cron"),
        ({"timezone": "europe/berlin"}, "/timezone"),
        ({"timezone": "../../etc/passwd"}, "/timezone"),
        ({"cron": "* * * * *", "jitter": 60}, "/jitter"),
        ({"jitter": 3601}, "/jitter"),
        ({"watermark": "2026-01-01"}, "/watermark"),
        ({"export": PROJECT | {"parent": "x"}}, "/export/parent"),
        ({"more": 1}, "/more"),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    caller: httpx.AsyncClient, wrong: dict[str, Any], pointer: str
) -> None:
    refused = await caller.post("/v1/schedules", json=NIGHTLY | wrong)
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == [pointer]


async def test_what_is_not_granted_cannot_be_scheduled(api: Api, caller: httpx.AsyncClient) -> None:
    low = await api.caller(grants=[GrantSpec(workspace="1001", highest_priority=Priority.LOW)])
    refused = await low.post("/v1/schedules", json=NIGHTLY)
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/export/priority"]
    shown = await made(caller)
    elsewhere = NIGHTLY | {"export": TASKS | {"workspace": "7777"}}
    assert (await caller.put(f"/v1/schedules/{shown['id']}", json=elsewhere)).status_code == 404
    assert (await caller.get(f"/v1/schedules/{shown['id']}")).json() == shown


async def test_a_draining_queue_is_no_reason_against_a_schedule(
    admin: httpx.AsyncClient, caller: httpx.AsyncClient
) -> None:
    await admin.post("/v1/workspaces/1001/lane/drain")
    await made(caller)


async def test_a_name_is_given_once_by_each_client(api: Api, caller: httpx.AsyncClient) -> None:
    shown, other = await made(caller), await made(caller, name="other")
    again = await caller.post("/v1/schedules", json=NIGHTLY)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    renamed = await caller.put(f"/v1/schedules/{other['id']}", json=NIGHTLY)
    assert (renamed.status_code, renamed.json()["code"]) == (409, "conflict")
    await made(await api.caller())
    assert (await caller.delete(f"/v1/schedules/{shown['id']}")).status_code == 204
    await made(caller)


async def test_a_schedule_is_changed_as_a_whole(api: Api, caller: httpx.AsyncClient) -> None:
    shown = await made(caller, jitter=300, export=CHANGED, watermark="2026-01-01T00:00:00Z")
    assert shown["watermark"] == "2026-01-01T00:00:00Z"
    address = f"/v1/schedules/{shown['id']}"
    put = await caller.put(address, json=NIGHTLY | {"cron": "0 4 * * *", "export": CHANGED, "note": "later"})
    assert put.status_code == 200
    changed = put.json()
    assert (changed["cron"], changed["jitter"]) == ("0 4 * * *", 0)
    assert datetime.fromisoformat(changed["next_slot"]).hour == 4
    assert changed["watermark"] == "2026-01-01T00:00:00Z"
    again = await caller.put(address, json=NIGHTLY | {"export": CHANGED, "watermark": None})
    assert again.json()["watermark"] is None
    assert await events_of(api, shown["id"]) == [
        ("schedule.created", ""),
        ("schedule.changed", "later"),
        ("schedule.changed", ""),
    ]


async def test_a_paused_schedule_has_no_next_slot_and_is_resumed(api: Api, caller: httpx.AsyncClient) -> None:
    shown = await made(caller)
    address = f"/v1/schedules/{shown['id']}"
    paused = await caller.post(f"{address}/pause", json={"note": "holidays"})
    assert (paused.json()["next_slot"], paused.json()["next_at"]) == (None, None)
    assert paused.json()["paused_at"]
    assert (await caller.post(f"{address}/pause")).json() == paused.json()
    resumed = await caller.post(f"{address}/resume")
    assert (resumed.json()["next_slot"], resumed.json()["paused_at"]) == (shown["next_slot"], None)
    assert (await caller.post(f"{address}/resume")).json() == resumed.json()
    assert await events_of(api, shown["id"]) == [
        ("schedule.created", ""),
        ("schedule.paused", "holidays"),
        ("schedule.resumed", ""),
    ]


async def test_an_ended_schedule_is_gone_but_its_exports_are_found_by_it(
    api: Api, caller: httpx.AsyncClient
) -> None:
    shown = await made(caller)
    export = await fired(api)
    assert (await caller.delete(f"/v1/schedules/{shown['id']}")).status_code == 204
    assert (await caller.get(f"/v1/schedules/{shown['id']}")).status_code == 404
    assert (await caller.delete(f"/v1/schedules/{shown['id']}")).status_code == 404
    assert (await caller.get("/v1/schedules")).json() == {"items": []}
    await caller.post("/v1/exports/resource", json=TASKS)
    listed = (await caller.get("/v1/exports", params={"schedule": shown["id"]})).json()["items"]
    assert [item["id"] for item in listed] == [export.id]


async def test_an_export_tells_its_schedule_and_the_schedule_its_export(
    api: Api, caller: httpx.AsyncClient
) -> None:
    shown = await made(caller, export=CHANGED)
    export = await fired(api)
    seen = (await caller.get(f"/v1/exports/{export.id}")).json()
    assert export.slot is not None
    assert seen["schedule"]["id"] == shown["id"]
    assert datetime.fromisoformat(seen["schedule"]["slot"]) == export.slot
    assert (await caller.get(f"/v1/schedules/{shown['id']}")).json()["last_export"] == export.id
    asked = await caller.post("/v1/exports/resource", json=TASKS)
    assert asked.json()["schedule"] is None


async def test_the_watermark_is_shown_once_an_export_has_succeeded(
    api: Api, caller: httpx.AsyncClient
) -> None:
    shown = await made(caller, export=CHANGED)
    export = await fired(api)
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE runs SET data_from = '2026-01-02T00:00:00Z'"))
    await succeeded(api, export.id, b"")
    seen = (await caller.get(f"/v1/schedules/{shown['id']}")).json()
    assert seen["watermark"] == "2026-01-02T00:00:00Z"


async def test_a_preview_tells_the_next_slots(caller: httpx.AsyncClient) -> None:
    shown = await made(caller, jitter=300, timezone="America/New_York")
    preview = await caller.get(f"/v1/schedules/{shown['id']}/preview", params={"count": 3})
    items = preview.json()["items"]
    assert len(items) == 3
    assert (items[0]["slot"], items[0]["fires_at"]) == (shown["next_slot"], shown["next_at"])
    assert [datetime.fromisoformat(item["local"]).hour for item in items] == [3, 3, 3]
    assert (await caller.get(f"/v1/schedules/{shown['id']}/preview?count=101")).status_code == 422


async def test_what_is_not_made_yet_has_a_preview_too(caller: httpx.AsyncClient) -> None:
    body = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "count": 2}
    items = (await caller.post("/v1/schedules/preview", json=body)).json()["items"]
    assert [item["fires_at"] for item in items] == [None, None]
    assert {item["local"][11:16] for item in items} <= {"02:30", "03:00"}
    refused = await caller.post("/v1/schedules/preview", json=body | {"cron": "x"})
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/cron"]


async def test_the_steps_of_the_docs_can_be_taken(
    api: Api, caller: httpx.AsyncClient, tmp_path: Path
) -> None:
    helpers = re.search(r"^call\(\).*?^print.*?\n", part("tour", TOUR), re.DOTALL | re.MULTILINE)
    steps = re.findall(r"```sh\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert helpers
    env = {"KEY": caller.headers["Authorization"].removeprefix("Bearer "), "API": api.url}
    said = await typed("\n".join([helpers[0], *steps]), tmp_path, env)
    preview, _, exports, paused, next_slot = said.strip().splitlines()
    assert (preview.count("fires_at"), exports) == (3, "[]")
    assert datetime.fromisoformat(paused) < datetime.fromisoformat(next_slot)


async def test_an_administrator_sees_and_changes_all(
    api: Api, admin: httpx.AsyncClient, caller: httpx.AsyncClient
) -> None:
    shown = await made(caller)
    assert (await admin.get("/v1/schedules")).json() == {"items": [shown]}
    changed = await admin.put(f"/v1/schedules/{shown['id']}", json=NIGHTLY | {"cron": "0 5 * * *"})
    assert (changed.status_code, changed.json()["created_by"]) == (200, shown["created_by"])
    export = await fired(api)
    assert (await caller.get(f"/v1/exports/{export.id}")).json()["created_by"] == shown["created_by"]


async def test_one_that_keeps_being_skipped_needs_attention(
    api: Api, admin: httpx.AsyncClient, caller: httpx.AsyncClient
) -> None:
    shown = await made(caller)
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE clients SET revoked_at = now() WHERE name = 'caller 1'"))
    for times in range(3):
        assert (await admin.get("/v1/attention")).json()["items"] == [], times
        now = datetime.now(UTC) + timedelta(seconds=1)
        async with api.sessions.begin() as session:
            await session.execute(text("UPDATE schedules SET next_slot = now(), fires_at = now()"))
        async with api.sessions.begin() as session:
            assert await fire(session, shown["id"], Rules(), now) is None
    (item,) = (await admin.get("/v1/attention")).json()["items"]
    assert (item["kind"], item["cause"], item["count"]) == ("schedule-skipping", shown["id"], 3)
    seen = (await admin.get(f"/v1/schedules/{shown['id']}")).json()
    assert (seen["skips"], seen["skip_reason"]) == (3, "client_revoked")
    await admin.post(f"/v1/schedules/{shown['id']}/pause")
    assert (await admin.get("/v1/attention")).json()["items"] == []


async def test_a_key_that_only_reads_makes_none(api: Api) -> None:
    reader = await api.caller(Scope.EXPORTS_READ)
    assert (await reader.post("/v1/schedules", json=NIGHTLY)).json()["code"] == "scope-missing"
    assert (await reader.get("/v1/schedules")).status_code == 200
