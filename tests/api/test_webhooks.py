"""Webhook endpoints over HTTP: made, changed, deleted; what was sent, and what is sent again."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text, update
from standardwebhooks import Webhook

from app.access.clients import GrantSpec
from app.access.models import Scope
from app.events.log import Event, EventType
from app.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint
from tests.api.conftest import Api, other_tasks

ENDPOINTS = "/v1/webhook-endpoints"
URL = "https://hooks.example.com/hook?team=bi"
JOBS = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'deliver_webhooks'")


async def made(caller: httpx.AsyncClient, **spec: Any) -> dict[str, Any]:
    answer = await caller.post(ENDPOINTS, json={"url": URL, **spec})
    assert answer.status_code == 201, answer.text
    endpoint: dict[str, Any] = answer.json()
    return endpoint


def place(endpoint: dict[str, Any]) -> str:
    return f"{ENDPOINTS}/{endpoint['id']}"


async def asked(caller: httpx.AsyncClient) -> None:
    assert (await caller.post("/v1/exports/resource", json=other_tasks())).status_code == 202


async def delivered(api: Api, state: DeliveryState = DeliveryState.DELIVERED) -> None:
    """As if all had been sent."""
    accepted = {"at": "2026-01-02T03:04:05Z", "status": 204, "error": None, "duration_ms": 1}
    async with api.sessions.begin() as session:
        await session.execute(
            update(WebhookDelivery).values(state=state, finished_at=func.now(), tries=1, attempts=[accepted])
        )


async def deliveries(
    caller: httpx.AsyncClient, endpoint: dict[str, Any], **query: Any
) -> list[dict[str, Any]]:
    answer = await caller.get(f"{place(endpoint)}/deliveries", params=query)
    assert answer.status_code == 200
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_an_endpoint_is_made_with_a_secret_that_is_shown_once(caller: httpx.AsyncClient) -> None:
    answer = await caller.post(
        ENDPOINTS,
        json={
            "url": URL,
            "types": ["export.failed", "export.failed"],
            "workspaces": ["1001"],
            "description": "x",
        },
    )
    assert answer.status_code == 201
    endpoint = answer.json()
    assert answer.headers["Location"] == place(endpoint)
    assert Webhook(endpoint.pop("secret")).sign("evt_1", datetime.now(UTC), "{}").startswith("v1,")
    assert (endpoint["types"], endpoint["disabled"]) == (["export.failed"], False)
    assert (await caller.get(place(endpoint))).json() == endpoint
    assert (await caller.get(ENDPOINTS)).json() == {"items": [endpoint]}


async def test_secrets_are_encrypted_at_rest(api: Api, caller: httpx.AsyncClient) -> None:
    secret = (await made(caller))["secret"]
    async with api.sessions() as session:
        kept = await session.scalar(text("SELECT secret FROM webhook_endpoints"))
        everything = await session.scalar(text("SELECT w::text FROM webhook_endpoints AS w"))
    assert api.services.vault.decrypt(bytes(kept)).get_secret_value() == secret
    assert secret not in str(everything)


async def test_a_rotated_secret_is_another_and_the_old_one_is_good_for_a_day(
    caller: httpx.AsyncClient,
) -> None:
    endpoint = await made(caller)
    answer = await caller.post(f"{place(endpoint)}/rotate-secret", json={"note": "it was in a log"})
    assert answer.status_code == 201
    assert answer.json()["secret"] not in {None, endpoint["secret"]}
    until = datetime.fromisoformat(answer.json()["previous_secret_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=24)) < timedelta(minutes=1)


async def test_a_secret_is_not_rotated_twice_within_a_day_unless_forced(
    api: Api, caller: httpx.AsyncClient
) -> None:
    rotate = f"{place(await made(caller))}/rotate-secret"
    first = (await caller.post(rotate, json={})).json()
    refused = await caller.post(rotate, json={"note": "again"})
    assert (refused.status_code, refused.json()["code"]) == (409, "secret-rotating")
    until = datetime.fromisoformat(first["previous_secret_until"])
    assert until.isoformat() in refused.json()["detail"]
    forced = await caller.post(rotate, json={"force": True})
    assert (forced.status_code, forced.json()["secret"] != first["secret"]) == (201, True)
    async with api.sessions.begin() as session:
        await session.execute(update(WebhookEndpoint).values(previous_until=func.now()))
    assert (await caller.post(rotate)).status_code == 201


async def test_who_lost_the_answer_is_told_the_secret_by_the_same_key(
    api: Api, caller: httpx.AsyncClient
) -> None:
    spec, headers = {"url": URL, "description": "x"}, {"Idempotency-Key": "k"}
    first, again = [await caller.post(ENDPOINTS, json=spec, headers=headers) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert (again.json(), again.headers["Location"]) == (first.json(), first.headers["Location"])
    assert len((await caller.get(ENDPOINTS)).json()["items"]) == 1
    other = await caller.post(ENDPOINTS, json=spec | {"description": "y"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    somebody = await (await api.caller()).post(ENDPOINTS, json=spec, headers=headers)
    assert somebody.json()["id"] != first.json()["id"]

    rotate = f"{place(first.json())}/rotate-secret"
    rotated, once_more = [await caller.post(rotate, json={}, headers=headers) for _ in range(2)]
    assert (rotated.status_code, once_more.json()) == (201, rotated.json())
    assert rotated.json()["secret"] != first.json()["secret"]
    assert once_more.headers["Idempotency-Replayed"] == "true"
    # What is told is how it is now.
    replayed = await caller.post(ENDPOINTS, json=spec, headers=headers)
    assert replayed.json()["secret"] == rotated.json()["secret"]

    await caller.delete(place(first.json()))
    gone = await caller.post(ENDPOINTS, json=spec, headers=headers)
    assert (gone.status_code, gone.json()["code"]) == (404, "not-found")
    assert (await caller.get(ENDPOINTS)).json()["items"] == []


async def test_twins_in_the_same_moment_make_one_endpoint(caller: httpx.AsyncClient) -> None:
    async def insisted() -> httpx.Response:
        """On a busy machine a twin may have to come back."""
        while True:
            answer = await caller.post(ENDPOINTS, json={"url": URL}, headers={"Idempotency-Key": "k"})
            if answer.status_code != 409:
                return answer

    answers = await asyncio.gather(*(insisted() for _ in range(5)))
    assert len({(answer.json()["id"], answer.json()["secret"]) for answer in answers}) == 1
    assert len((await caller.get(ENDPOINTS)).json()["items"]) == 1


async def test_a_refused_endpoint_does_not_use_up_its_key(caller: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k"}
    refused = await caller.post(ENDPOINTS, json={"url": "https://10.0.0.1/"}, headers=headers)
    assert refused.status_code == 422
    assert (await caller.post(ENDPOINTS, json={"url": URL}, headers=headers)).status_code == 201


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        ({"url": "http://hooks.example.com/"}, "/url"),
        ({"url": "ftp://hooks.example.com/"}, "/url"),
        ({"url": "hooks.example.com"}, "/url"),
        ({"url": "https://10.0.0.1/"}, "/url"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "/url"),
        ({"url": "https://user:word@hooks.example.com/"}, "/url"),
        ({"url": "https://hooks.example.com:99999/"}, "/url"),
        ({"url": "https://hooks.example.com]/"}, "/url"),
        ({"url": f"https://hooks.example.com/{'x' * 2000}"}, "/url"),
        ({"types": ["export.progressed"]}, "/types/0"),
        ({"workspaces": ["1001", "abc"]}, "/workspaces/1"),
        ({"workspaces": ["1001", "7777"]}, "/workspaces/1"),
        ({"disabled": "yes"}, "/disabled"),
        ({"secret": "mine"}, "/secret"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_said(api: Api, spec: dict[str, Any], pointer: str) -> None:
    caller = await api.caller(grants=[GrantSpec(workspace="1001")])
    answer = await caller.post(ENDPOINTS, json={"url": URL} | spec)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    endpoint = await made(caller)
    patched = await caller.patch(place(endpoint), json=spec)
    assert [fault["pointer"] for fault in patched.json()["errors"]] == [pointer]
    assert (await caller.get(ENDPOINTS)).json()["items"] == [
        {name: value for name, value in endpoint.items() if name != "secret"}
    ]


async def test_all_that_is_wrong_is_said_at_once(api: Api) -> None:
    caller = await api.caller(grants=[GrantSpec(workspace="1001")])
    answer = await caller.post(ENDPOINTS, json={"url": "http://10.0.0.1/", "workspaces": ["7", "8"]})
    assert {fault["pointer"] for fault in answer.json()["errors"]} == {
        "/url",
        "/workspaces/0",
        "/workspaces/1",
    }


async def test_an_administrator_gives_an_endpoint_nothing_its_owner_may_not_see(api: Api) -> None:
    caller = await api.caller(grants=[GrantSpec(workspace="1001")])
    endpoint = await made(caller)
    answer = await (await api.admin()).patch(place(endpoint), json={"workspaces": ["1002"]})
    assert answer.status_code == 422


async def test_twenty_endpoints_are_enough(caller: httpx.AsyncClient) -> None:
    for _ in range(20):
        last = await made(caller)
    answer = await caller.post(ENDPOINTS, json={"url": URL})
    assert (answer.status_code, answer.json()["code"]) == (429, "quota-exceeded")
    assert (await caller.delete(place(last))).status_code == 204
    await made(caller)


async def test_twenty_are_enough_also_when_they_come_at_once(caller: httpx.AsyncClient) -> None:
    for _ in range(15):
        await made(caller)
    answers = await asyncio.gather(*(caller.post(ENDPOINTS, json={"url": URL}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [429] * 5


async def test_what_is_left_out_of_a_change_stays(api: Api, caller: httpx.AsyncClient) -> None:
    endpoint = await made(caller, types=["export.failed"], description="mine")
    changed = (await caller.patch(place(endpoint), json={"workspaces": ["1001"], "note": "only here"})).json()
    assert (changed["types"], changed["workspaces"]) == (["export.failed"], ["1001"])
    assert (changed["description"], changed["url"]) == ("mine", URL)
    async with api.sessions() as session:
        told = (await session.scalars(select(Event).where(Event.type == EventType.WEBHOOK_CHANGED))).one()
    assert told.data["note"] == "only here"
    assert told.actor == "client:caller 1"


async def test_a_deleted_endpoint_is_gone(caller: httpx.AsyncClient) -> None:
    endpoint = await made(caller)
    await asked(caller)
    assert (await caller.delete(place(endpoint))).status_code == 204
    assert (await caller.get(place(endpoint))).status_code == 404
    assert (await caller.delete(place(endpoint))).status_code == 404


async def test_deliveries_are_listed_with_their_tries_page_by_page(
    api: Api, caller: httpx.AsyncClient
) -> None:
    endpoint = await made(caller)
    for _ in range(5):
        await asked(caller)
    attempt = {"at": "2026-01-02T03:04:05Z", "status": 500, "error": None, "duration_ms": 7}
    async with api.sessions.begin() as session:
        await session.execute(update(WebhookDelivery).values(attempts=[attempt], tries=1))
    first = await caller.get(f"{place(endpoint)}/deliveries", params={"page_size": 3})
    assert 'rel="next"' in first.headers["Link"]
    second = await caller.get(
        f"{place(endpoint)}/deliveries", params={"page_token": first.json()["next_page_token"]}
    )
    items = first.json()["items"] + second.json()["items"]
    assert second.json()["next_page_token"] is None
    assert len({item["id"] for item in items}) == len(items) == 5
    assert [item["id"] for item in items] == sorted((item["id"] for item in items), reverse=True)
    assert {item["type"] for item in items} == {"export.created"}
    assert items[0]["attempts"] == [attempt]
    assert items[0]["next_try_at"] is not None
    assert await deliveries(caller, endpoint, state="delivered") == []
    refused = await caller.get(f"{place(endpoint)}/deliveries", params={"page_token": "x"})
    assert refused.json()["code"] == "bad-page-token"


async def test_one_delivery_is_sent_again(api: Api, caller: httpx.AsyncClient) -> None:
    endpoint = await made(caller)
    await asked(caller)
    (delivery,) = await deliveries(caller, endpoint)
    replay = f"{place(endpoint)}/replay"
    on_its_way = await caller.post(replay, json={"delivery": delivery["id"]})
    assert (on_its_way.status_code, on_its_way.json()["deliveries"]) == (202, 0)
    await delivered(api)
    async with api.sessions() as session:
        jobs = await session.scalar(JOBS) or 0
    assert (await caller.post(replay, json={"delivery": delivery["id"]})).json()["deliveries"] == 1
    (again,) = await deliveries(caller, endpoint)
    assert (again["id"], again["state"], again["finished_at"]) == (delivery["id"], "pending", None)
    async with api.sessions() as session:
        assert await session.scalar(JOBS) == jobs + 1
    unknown = await caller.post(replay, json={"delivery": "evt_" + "0" * 32})
    assert unknown.status_code == 404


async def test_all_since_a_time_is_sent_again_and_what_was_missed(
    api: Api, caller: httpx.AsyncClient
) -> None:
    stranger = await api.caller()
    endpoint = await made(caller, types=["export.created"])
    await asked(caller)
    since = datetime.now(UTC)
    await asked(caller)
    await delivered(api)
    disabled = (await caller.patch(place(endpoint), json={"disabled": True})).json()
    assert (disabled["disabled"], disabled["disabled_because"]) == (True, "asked")
    await asked(caller)
    await asked(stranger)
    for act, body in (("replay", {"since": since.isoformat()}), ("test", {})):
        refused = await caller.post(f"{place(endpoint)}/{act}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint-disabled")
    enabled = (await caller.patch(place(endpoint), json={"disabled": False})).json()
    assert (enabled["disabled"], enabled["disabled_because"]) == (False, None)
    answer = await caller.post(f"{place(endpoint)}/replay", json={"since": since.isoformat()})
    assert answer.json() == {"deliveries": 2, "more_since": None}
    states = [delivery["state"] for delivery in await deliveries(caller, endpoint)]
    assert states == ["pending", "pending", "delivered"]


async def test_a_long_replay_tells_where_to_go_on(
    api: Api, caller: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.webhooks.deliveries.MOST_REPLAYED", 2)
    began = datetime.now(UTC)
    for _ in range(3):
        await asked(caller)
    endpoint = await made(caller)
    first = (await caller.post(f"{place(endpoint)}/replay", json={"since": began.isoformat()})).json()
    assert first["deliveries"] == 2
    second = (await caller.post(f"{place(endpoint)}/replay", json={"since": first["more_since"]})).json()
    assert second["deliveries"] == 1
    assert len(await deliveries(caller, endpoint)) == 3


async def test_what_is_disabled_is_given_up(api: Api, caller: httpx.AsyncClient) -> None:
    endpoint = await made(caller)
    await asked(caller)
    await caller.patch(place(endpoint), json={"disabled": True})
    assert [delivery["state"] for delivery in await deliveries(caller, endpoint)] == ["failed"]
    admin = await api.admin()
    assert (await admin.get("/v1/attention")).json()["items"] == []


@pytest.mark.parametrize(
    "body", [{}, {"delivery": None}, {"since": "2026-01-01T00:00:00Z", "delivery": "evt_" + "1" * 32}]
)
async def test_a_replay_is_of_one_or_since_a_time(caller: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await caller.post(f"{place(await made(caller))}/replay", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation-failed")


async def test_a_test_is_an_event_of_its_own(api: Api, caller: httpx.AsyncClient) -> None:
    endpoint, _ = await made(caller), await made(caller)
    answer = await caller.post(f"{place(endpoint)}/test")
    assert (answer.status_code, answer.json()["type"]) == (202, "webhook.test")
    assert [delivery["id"] for delivery in await deliveries(caller, endpoint)] == [answer.json()["id"]]
    async with api.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(WebhookDelivery)) == 1


async def test_only_readers_have_endpoints(api: Api) -> None:
    writer = await api.caller(Scope.EXPORTS_WRITE)
    assert (await writer.post(ENDPOINTS, json={"url": URL})).status_code == 403
