"""What should be looked at is listed by cause, and is not listed again once somebody has seen it."""

from datetime import timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from app.access.clients import GrantSpec
from app.access.models import Credential, CredentialState, Scope
from app.events.log import Event
from app.exports.models import Run, Status
from app.exports.states import change, locked_run
from app.lanes.models import Lane, LaneWait, WaitReason
from app.problems import Code, Problem
from tests.api.conftest import Api, other_tasks


async def listed(caller: httpx.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await caller.get("/v1/attention", params=query)).json()["items"]
    return items


async def failed(api: Api, caller: httpx.AsyncClient, code: Code) -> None:
    export = (await caller.post("/v1/exports/resource", json=other_tasks())).json()
    async with api.sessions.begin() as session:
        run = await locked_run(session, export["run"]["id"])
        await change(session, run, Status.FAILED, actor="test", problem=Problem(code, "as tested"))


async def test_in_health_there_is_nothing(api: Api, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/exports/resource", json=other_tasks())
    assert await listed(admin) == []


async def test_failures_are_grouped_by_cause(api: Api, admin: httpx.AsyncClient) -> None:
    for code in (Code.UPSTREAM_FAILED, Code.UPSTREAM_FAILED, Code.ARTIFACT_CORRUPT, Code.QUEUE_TTL_EXCEEDED):
        await failed(api, admin, code)
    assert [(item["id"], item["count"]) for item in await listed(admin)] == [
        ("exports-failed.1001.upstream-failed", 2),
        ("exports-failed.1001.artifact-corrupt", 1),
    ]


async def test_a_lane_refused_for_hours_is_listed_until_it_is_not(api: Api, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/exports/resource", json=other_tasks())

    async def refused_for(hours: float) -> None:
        async with api.sessions.begin() as session:
            await session.execute(update(Lane).values(wait_reason=WaitReason.UPSTREAM_SLOT_BUSY, probes=9))
            await session.execute(update(LaneWait).values(since=func.now() - timedelta(hours=hours)))

    await refused_for(5.9)
    assert await listed(admin) == []
    await refused_for(6.1)
    (item,) = await listed(admin)
    assert (item["id"], item["workspace"], item["count"]) == ("lane-blocked.1001", "1001", 9)
    async with api.sessions.begin() as session:
        await session.execute(update(Lane).values(wait_reason=None))
    assert await listed(admin) == []


async def test_an_invalid_credential_is_listed_with_what_waits_for_it(
    api: Api, admin: httpx.AsyncClient
) -> None:
    await admin.post("/v1/exports/resource", json=other_tasks())
    async with api.sessions.begin() as session:
        await session.execute(
            update(Credential).values(state=CredentialState.INVALID, invalid_since=func.now())
        )
    (item,) = await listed(admin)
    assert (item["kind"], item["cause"], item["count"]) == ("credential-invalid", api.tenant.credential, 1)


async def test_a_full_store_is_listed(api: Api, admin: httpx.AsyncClient) -> None:
    await admin.post("/v1/exports/resource", json=other_tasks())
    async with api.sessions.begin() as session:
        await session.execute(
            update(Run).values(
                status=Status.ARCHIVING, wait_reason=WaitReason.STORAGE_FULL, slot_freed_at=func.now()
            )
        )
    assert [(item["id"], item["count"]) for item in await listed(admin)] == [("storage-full", 1)]


async def test_what_somebody_has_seen_is_listed_again_when_it_happens_again(
    api: Api, admin: httpx.AsyncClient
) -> None:
    await failed(api, admin, Code.UPSTREAM_FAILED)
    (item,) = await listed(admin)
    seen = await admin.post(f"/v1/attention/{item['id']}/acknowledge", json={"note": "asked Asana"})
    assert seen.status_code == 200
    assert (
        seen.json()["acknowledged"].items() >= {"by": api.tenant.client.actor, "note": "asked Asana"}.items()
    )
    assert await listed(admin) == []
    assert await listed(admin, acknowledged=True) == [seen.json()]
    await failed(api, admin, Code.UPSTREAM_FAILED)
    (again,) = await listed(admin)
    assert (again["id"], again["count"], again["acknowledged"]) == (item["id"], 2, None)
    async with api.sessions() as session:
        trace = (await session.scalars(select(Event).where(Event.type == "attention.acknowledged"))).one()
    assert trace.data == {"item": item["id"], "note": "asked Asana"}


@pytest.mark.parametrize("item", ["storage-full", "x", "exports-failed.1001.upstream-failed", "a%00b"])
async def test_what_needs_no_attention_cannot_be_acknowledged(admin: httpx.AsyncClient, item: str) -> None:
    answer = await admin.post(f"/v1/attention/{item}/acknowledge")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_one_sees_what_concerns_ones_workspaces(api: Api, admin: httpx.AsyncClient) -> None:
    await failed(api, admin, Code.UPSTREAM_FAILED)
    async with api.sessions.begin() as session:
        await session.execute(
            update(Credential).values(state=CredentialState.INVALID, invalid_since=func.now())
        )
    here = await api.caller(Scope.LANES_ADMIN, grants=[GrantSpec(workspace="1001")])
    elsewhere = await api.caller(Scope.LANES_ADMIN, grants=[GrantSpec(workspace="1002")])
    assert len(await listed(admin)) == 2
    (item,) = await listed(here)
    assert item["kind"] == "exports-failed"
    assert await listed(elsewhere) == []
    address = f"/v1/attention/{item['id']}/acknowledge"
    assert (await elsewhere.post(address)).status_code == 404
    assert (await here.post(address)).status_code == 200
