"""The API is killed right before and right after each of its commits, and the caller asks again."""

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, update

from app.access.clients import ClientSpec, create_client
from app.access.models import Credential, CredentialState, Scope
from app.access.vault import open_vault
from app.artifacts.store import open_store
from app.database.base import Base, BigInt
from app.events.log import Cause
from app.exports.accept import Rules
from app.exports.cancel import cancel
from app.exports.latency import database_now
from app.exports.models import Export, Phase, Status
from app.exports.removal import hold_artifact
from app.exports.runs import HeldArchive
from app.exports.schedules import ScheduleSpec, create_schedule
from app.exports.schedules import pause as pause_schedule
from app.exports.states import change, locked_run
from app.ids import ArtifactId, LaneKey, new_worker_id
from app.lanes.control import pause
from app.sandbox.faults import Call as SandboxCall
from app.sandbox.faults import FaultKind
from tests.builders import an_artifact, an_endpoint, another_workspace, deleted
from tests.crash.conftest import World, Worlds
from tests.crash.deaths import die_everywhere
from tests.crash.points import commits
from tests.crash.victim import Death, Side
from tests.system.exports import resource

ONLY_READS = "app.api.auth.authenticated"
Json = dict[str, Any]
Rows = dict[str, list[Json]]


@dataclass(frozen=True)
class Call:
    """A request, always sent with the same Idempotency-Key."""

    method: str
    path: str
    body: Json | None = None


@dataclass(frozen=True)
class Act:
    """Something asked of the API; how that is answered, and how when it is asked for a second time.

    `anew` tells that the second time is an event of its own, `makes` in which tables it makes another row.
    """

    prepare: Callable[[World], Awaitable[Call]]
    first: int
    again: int
    anew: bool
    makes: tuple[str, ...] = ()
    done: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.prepare.__name__


ACTS: list[Act] = []


def act(
    *, first: int, again: int, anew: bool = False, makes: tuple[str, ...] = ()
) -> Callable[[Callable[[World], Awaitable[Call]]], Callable[[World], Awaitable[Call]]]:
    def enter(prepare: Callable[[World], Awaitable[Call]]) -> Callable[[World], Awaitable[Call]]:
        ACTS.append(Act(prepare, first, again, anew, makes))
        return prepare

    return enter


@act(first=202, again=202)
async def a_resource_export(world: World) -> Call:
    items = [{"resource_type": "task"}]
    body = {"workspace": world.gid, "export_request_parameters": items}
    return Call("POST", "/v1/exports/resource", body)


@act(first=202, again=202)
async def a_graph_export(world: World) -> Call:
    return Call("POST", "/v1/exports/graph", {"workspace": world.gid, "parent": f"{world.gid}2001"})


@act(first=201, again=201)
async def a_job_as_at_asana(world: World) -> Call:
    items = [{"resource_type": "task"}]
    body = {"data": {"workspace": world.gid, "export_request_parameters": items}}
    return Call("POST", "/api/1.0/exports/resource", body)


async def a_parent_somewhere(world: World) -> Call:
    """In one of two workspaces, so that Asana has to be asked in which."""
    async with world.sessions.begin() as session:
        await another_workspace(session, world.tenant, f"{world.gid}9")
    return Call("POST", "/api/1.0/exports/graph", {"data": {"parent": f"{world.gid}2001"}})


@act(first=201, again=201)
async def a_parent_that_is_found(world: World) -> Call:
    return await a_parent_somewhere(world)


@act(first=503, again=503)
async def a_parent_looked_for_too_often(world: World) -> Call:
    world.fault(SandboxCall.PARENT, FaultKind.STATUS, times=None, status=429, retry_after=600)
    return await a_parent_somewhere(world)


@act(first=503, again=503)
async def a_parent_looked_for_with_an_old_token(world: World) -> Call:
    world.sandbox.revoke_token(world.gid)
    return await a_parent_somewhere(world)


@act(first=202, again=202)
async def a_retry(world: World) -> Call:
    export = await world.asked(resource(world.gid))
    async with world.sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
    return Call("POST", f"/v1/exports/{export.id}/retry")


@act(first=200, again=200)
async def a_cancel(world: World) -> Call:
    return Call("POST", f"/v1/exports/{(await world.asked(resource(world.gid))).id}/cancel")


@act(first=201, again=409)
async def a_credential(world: World) -> Call:
    return Call("POST", "/v1/credentials", {"name": "another", "token": f"planted-token-{world.gid}"})


@act(first=200, again=200, anew=True)
async def another_token(world: World) -> Call:
    return Call("PUT", f"/v1/credentials/{world.tenant.credential}", {"token": f"planted-token-{world.gid}"})


@act(first=201, again=200, anew=True)
async def a_workspace(world: World) -> Call:
    world.sandbox.put_workspace(f"{world.gid}9")
    return Call("PUT", f"/v1/workspaces/{world.gid}9", {"credential": world.tenant.credential})


@act(first=204, again=404)
async def the_end_of_a_workspace(world: World) -> Call:
    return Call("DELETE", f"/v1/workspaces/{world.gid}")


@act(first=201, again=409)
async def a_client(world: World) -> Call:
    return Call("POST", "/v1/clients", {"name": "bi", "scopes": ["exports:read"]})


async def of_a_client(world: World) -> str:
    async with world.sessions.begin() as session:
        client, _ = await create_client(
            session, ClientSpec(name="bi", scopes=(Scope.EXPORTS_READ,)), Cause("test")
        )
    return f"/v1/clients/{client.id}"


@act(first=200, again=200, anew=True)
async def a_changed_client(world: World) -> Call:
    return Call("PATCH", await of_a_client(world), {"max_queued": 7})


@act(first=201, again=201, anew=True)
async def another_key(world: World) -> Call:
    return Call("POST", await of_a_client(world) + "/key")


@act(first=200, again=200)
async def a_revoked_client(world: World) -> Call:
    return Call("POST", await of_a_client(world) + "/revoke")


def yearly(world: World) -> Json:
    """So that no slot of it comes while the test lasts, and for the same moment both times."""
    export = {"workspace": world.gid, "parent": f"{world.gid}2001"}
    return {"name": "yearly", "cron": "0 0 1 1 *", "export": export}


@act(first=201, again=201)
async def a_schedule(world: World) -> Call:
    return Call("POST", "/v1/schedules", yearly(world))


async def of_a_schedule(world: World, *, paused: bool = False) -> str:
    async with world.sessions.begin() as session:
        client, now = world.tenant.client, await database_now(session)
        spec = ScheduleSpec.model_validate(yearly(world))
        schedule = await create_schedule(session, client, spec, Rules(), now, Cause("test"))
        if paused:
            await pause_schedule(session, client, schedule, Rules(), Cause("test"))
    return f"/v1/schedules/{schedule}"


@act(first=200, again=200, anew=True)
async def a_changed_schedule(world: World) -> Call:
    return Call("PUT", await of_a_schedule(world), yearly(world) | {"cron": "0 0 2 1 *"})


@act(first=200, again=200)
async def a_paused_schedule(world: World) -> Call:
    return Call("POST", await of_a_schedule(world) + "/pause")


@act(first=200, again=200)
async def a_resumed_schedule(world: World) -> Call:
    return Call("POST", await of_a_schedule(world, paused=True) + "/resume")


@act(first=204, again=404)
async def the_end_of_a_schedule(world: World) -> Call:
    return Call("DELETE", await of_a_schedule(world))


@act(first=200, again=200)
async def a_pause(world: World) -> Call:
    return Call("POST", f"/v1/workspaces/{world.gid}/lane/pause")


@act(first=200, again=200)
async def a_drain(world: World) -> Call:
    return Call("POST", f"/v1/workspaces/{world.gid}/lane/drain")


@act(first=200, again=200)
async def a_resume(world: World) -> Call:
    await world.asked(resource(world.gid))
    async with world.sessions.begin() as session:
        await pause(session, LaneKey(world.gid), world.gid, Cause("test"))
    return Call("POST", f"/v1/workspaces/{world.gid}/lane/resume")


@act(first=200, again=200, anew=True)
async def an_acknowledgement(world: World) -> Call:
    async with world.sessions.begin() as session:
        invalid = {"state": CredentialState.INVALID, "invalid_since": func.now()}
        await session.execute(update(Credential).values(**invalid))
    return Call("POST", f"/v1/attention/credential-invalid.{world.tenant.credential}/acknowledge")


@act(first=200, again=200)
async def a_receipt(world: World) -> Call:
    export = await world.asked(resource(world.gid))
    async with world.sessions.begin() as session:
        run = await locked_run(session, export.run)
        # Its file is no longer kept, so none has to be there.
        artifact = an_artifact(HeldArchive(run.id, new_worker_id(), 1))
        session.add(artifact)
        run.submitted_at = run.slot_freed_at = artifact.expires_at
        for status in (Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED):
            phase = Phase.POLLING if status is Status.RUNNING else None
            await change(session, run, status, actor="test", phase=phase)
        await deleted(session, artifact)
    return Call("GET", f"/v1/exports/{export.id}/receipt")


@act(first=200, again=200)
async def a_look_at_the_feed(world: World) -> Call:
    await world.asked(resource(world.gid))
    return Call("GET", "/v1/events")


@act(first=202, again=202)
async def another_format(world: World) -> Call:
    return Call("POST", f"/v1/artifacts/{await of_a_file(world)}/outputs", {"format": "csv"})


@act(first=204, again=204)
async def the_end_of_a_file(world: World) -> Call:
    return Call("DELETE", f"/v1/artifacts/{await of_a_file(world)}")


@act(first=204, again=204)
async def a_hold(world: World) -> Call:
    return Call("PUT", f"/v1/artifacts/{await of_a_file(world)}/hold", {"note": "case 7"})


@act(first=204, again=204)
async def the_end_of_a_hold(world: World) -> Call:
    artifact = await of_a_file(world)
    async with world.sessions.begin() as session:
        await hold_artifact(session, world.tenant.client, artifact, Cause("test"))
    return Call("DELETE", f"/v1/artifacts/{artifact}/hold")


@act(first=202, again=202)
async def a_refetch(world: World) -> Call:
    return Call("POST", f"/v1/artifacts/{await of_a_file(world)}/refetch")


async def of_a_file(world: World) -> ArtifactId:
    """An empty one, that is stored."""
    export = await world.asked(resource(world.gid))
    async with world.sessions.begin() as session:
        run = await locked_run(session, export.run)
        for status, phase in ((Status.RUNNING, Phase.POLLING), (Status.ARCHIVING, None)):
            await change(session, run, status, actor="test", phase=phase)
        artifact = an_artifact(HeldArchive(run.id, new_worker_id(), 1))
        artifact.bytes, artifact.sha256 = BigInt(0), sha256(b"").hexdigest()
        session.add(artifact)
        await change(session, run, Status.SUCCEEDED, actor="test")
    async with open_store(world.settings.files_url).writer(artifact.key) as writer:
        await writer.write(b"")
        await writer.publish()
    return artifact.id


@act(first=201, again=201)
async def a_webhook_endpoint(world: World) -> Call:
    return Call("POST", "/v1/webhook-endpoints", {"url": "https://hooks.example.com/"})


async def of_a_webhook_endpoint(world: World) -> str:
    async with world.sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, open_vault(world.settings), world.tenant.client)
    return f"/v1/webhook-endpoints/{endpoint.id}"


@act(first=200, again=200, anew=True)
async def a_changed_webhook_endpoint(world: World) -> Call:
    return Call("PATCH", await of_a_webhook_endpoint(world), {"disabled": True})


@act(first=201, again=201)
async def another_secret_of_a_webhook(world: World) -> Call:
    return Call("POST", await of_a_webhook_endpoint(world) + "/rotate-secret")


@act(first=204, again=404)
async def the_end_of_a_webhook_endpoint(world: World) -> Call:
    return Call("DELETE", await of_a_webhook_endpoint(world))


@act(first=202, again=202, anew=True)
async def a_replay(world: World) -> Call:
    await world.asked(resource(world.gid))
    replay = await of_a_webhook_endpoint(world) + "/replay"
    return Call("POST", replay, {"since": "2026-01-01T00:00:00Z"})


@act(first=202, again=202, anew=True, makes=("webhook_deliveries",))
async def a_test_of_a_webhook(world: World) -> Call:
    return Call("POST", await of_a_webhook_endpoint(world) + "/test")


async def test_the_api_may_die_at_any_commit(worlds: Worlds, subtests: pytest.Subtests) -> None:
    stories = {act.name: partial(lived_through, worlds, act) for act in ACTS}
    await die_everywhere(stories, {at for at in commits() if not at.startswith("app.worker.")}, subtests)


async def lived_through(worlds: Worlds, act: Act, death: Death | None) -> list[str]:
    async with worlds.new() as world:
        call = await act.prepare(world)
        before = await rows(world)
        answer = await asked(world, call, death)
        was_done = bool(death and death.side is Side.AFTER and death.point != ONLY_READS)
        if death:
            assert answer is None
            await world.lives[0].has_died()
            assert (await rows(world) == before) is not was_done
            answer = await asked(world, call)
        assert answer is not None
        assert answer.status_code == (act.again if was_done else act.first), answer.text
        after = Counter({table: len(those) for table, those in (await rows(world)).items()})
        if death is None:
            act.done.update(after)
        assert after == act.done + Counter(((*act.makes, "events") if act.anew else ()) if was_done else ())
        await assert_all_ends(world)
        return world.lives[0].commits()


async def asked(world: World, call: Call, death: Death | None = None) -> httpx.Response | None:
    """None where the API died of it."""
    api = world.start("api", death)
    url = (await api.said("listening on", 60)).rsplit(" ", 1)[-1]
    headers = {"Authorization": f"Bearer {world.tenant.key}", "Idempotency-Key": "the same"}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=60) as http:
        try:
            return await http.request(call.method, call.path, json=call.body)
        except httpx.TransportError:
            return None


async def rows(world: World) -> Rows:
    """All that is kept, but for when a key was last used."""
    found: Rows = {}
    async with world.sessions() as session:
        for table in Base.metadata.sorted_tables:
            row = func.to_jsonb(table.table_valued()) - "last_used_at"
            found[table.name] = list(await session.scalars(select(row).order_by(*table.primary_key)))
    return found


async def assert_all_ends(world: World) -> None:
    """What was accepted is exported, if there is a valid token and nobody holds it."""
    async with world.sessions() as session:
        waiting = (await session.scalars(select(Export).where(Export.status == Status.QUEUED))).all()
    if waiting:
        world.start("worker")
        await world.succeeds(*waiting)
