"""Lanes over HTTP: seen, paused, drained and resumed."""

import httpx
from sqlalchemy import select, update

from app.access.clients import GrantSpec
from app.access.models import Scope
from app.events.log import Event
from app.exports.models import Phase, Status
from app.exports.states import change, locked_run
from app.lanes.models import Lane, WaitReason
from tests.api.conftest import Api, other_tasks

LANE = "/v1/workspaces/1001/lane"


async def test_a_lane_that_nothing_was_ever_in_is_open_and_empty(caller: httpx.AsyncClient) -> None:
    lane = (await caller.get(LANE)).json()
    assert (lane["state"], lane["queued"], lane["slot"]) == ("open", 0, None)


async def test_a_lane_tells_what_is_in_it(api: Api, caller: httpx.AsyncClient) -> None:
    first, *_ = [(await caller.post("/v1/exports/resource", json=other_tasks())).json() for _ in range(3)]
    async with api.sessions.begin() as session:
        run = await locked_run(session, first["run"]["id"])
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.SUBMITTING)
    lane = (await caller.get(LANE)).json()
    assert (lane["workspace"], lane["lane"], lane["queued"], lane["holder"]) == ("1001", "1001", 2, None)
    assert lane["slot"] == {
        "run": first["run"]["id"],
        "kind": "resource",
        "status": "running",
        "phase": "submitting",
        "wait_reason": None,
        "started_at": None,
    }
    assert lane["oldest_queued_at"] > first["created_at"]


async def test_a_lane_tells_what_it_waits_for(api: Api, caller: httpx.AsyncClient) -> None:
    await caller.post("/v1/exports/resource", json=other_tasks())
    async with api.sessions.begin() as session:
        await session.execute(update(Lane).values(wait_reason=WaitReason.UPSTREAM_SLOT_BUSY, probes=4))
    lane = (await caller.get(LANE)).json()
    assert (lane["wait_reason"], lane["refusals"]) == ("upstream_slot_busy", 4)
    assert lane["waiting_since"] <= lane["next_attempt_at"] or lane["next_attempt_at"]


async def test_a_paused_lane_accepts_and_its_exports_say_why_they_wait(
    api: Api, caller: httpx.AsyncClient
) -> None:
    keeper = await api.caller(Scope.LANES_ADMIN)
    before = (await caller.post("/v1/exports/resource", json=other_tasks())).headers["Location"]
    assert (await keeper.post(f"{LANE}/pause", json={"note": "Asana is being cleaned up"})).json()[
        "state"
    ] == "paused"
    after = await caller.post("/v1/exports/resource", json=other_tasks())
    assert after.status_code == 202
    for location in (before, after.headers["Location"]):
        assert (await caller.get(location)).json()["wait_reason"] == "lane_paused"
    resumed = (await keeper.post(f"{LANE}/resume")).json()
    assert (resumed["state"], resumed["wait_reason"]) == ("open", None)
    export = (await caller.get(before)).json()
    assert export["wait_reason"] == "waiting_for_worker"
    assert export["latency"]["paused_ms"] > 0


async def test_a_draining_lane_takes_nothing_new(api: Api, caller: httpx.AsyncClient) -> None:
    keeper = await api.caller(Scope.LANES_ADMIN)
    waiting = await caller.post("/v1/exports/resource", json=other_tasks())
    assert (await keeper.post(f"{LANE}/drain")).json()["state"] == "draining"
    for path in ("/v1/exports/resource", "/v1/exports/plan", f"{waiting.headers['Location']}/retry"):
        if path.endswith("retry"):
            await caller.post(f"{waiting.headers['Location']}/cancel")
        refused = await caller.post(path, json=other_tasks())
        assert (refused.status_code, refused.json()["code"]) == (409, "lane-draining")
        assert refused.headers["Retry-After"]
    await keeper.post(f"{LANE}/resume")
    assert (await caller.post("/v1/exports/resource", json=other_tasks())).status_code == 202


async def test_lanes_are_kept_by_those_who_have_a_grant(api: Api) -> None:
    elsewhere = await api.caller(Scope.LANES_ADMIN, grants=[GrantSpec(workspace="1002")])
    assert (await elsewhere.post(f"{LANE}/pause")).status_code == 404


async def test_what_is_so_already_is_no_event(api: Api, admin: httpx.AsyncClient) -> None:
    for act in ("pause", "pause", "drain", "drain", "resume", "resume"):
        assert (await admin.post(f"{LANE}/{act}", json={"note": act})).status_code == 200
    async with api.sessions() as session:
        events = await session.scalars(select(Event).where(Event.type.like("lane.%")).order_by(Event.seq))
        told = [(event.type, event.lane, event.data["note"], event.actor) for event in events]
    actor = api.tenant.client.actor
    assert told == [
        ("lane.paused", "1001", "pause", actor),
        ("lane.draining", "1001", "drain", actor),
        ("lane.resumed", "1001", "resume", actor),
    ]
