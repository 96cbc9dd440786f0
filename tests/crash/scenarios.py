"""What workers go through. Each must end as it says, whenever a worker dies in the middle of it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import SecretStr
from sqlalchemy import func, select, text, update

from app.access.credentials import replace_token
from app.access.models import Credential, CredentialState, Priority, Workspace
from app.access.vault import open_vault
from app.artifacts.models import ArtifactState, ConversionState, Refetch, RefetchState
from app.artifacts.outputs import Format
from app.asana.client import AsanaClient
from app.events.log import Cause, Event, EventType, record
from app.events.placing import EventFeed
from app.exports.accept import Rules, Submission, accept
from app.exports.cancel import cancel
from app.exports.latency import database_now
from app.exports.models import Export, Phase, Run, Status
from app.exports.requests import GraphRequest, ResourceRequest
from app.exports.schedules import ScheduleSpec, create_schedule
from app.exports.states import FINAL
from app.ids import CredentialId, LaneKey, new_credential_id
from app.lanes.control import pause, resume
from app.lanes.enqueue import lock_lane
from app.lanes.models import WaitReason
from app.sandbox.faults import Call, FaultKind
from app.sandbox.tokens import TokenKind
from app.schedules.models import Schedule, Watermark
from app.webhooks.models import DeliveryState, WebhookDelivery
from tests.builders import an_endpoint, another_workspace
from tests.crash.conftest import NEVER, World
from tests.locks import until_somebody_waits
from tests.processes import until
from tests.servers import Request, answer, serving
from tests.stores import folder_of
from tests.system.exports import resource

LONG, SHORT = 3600.0, 10.0
# Long enough ago to be told of, and not yet so long that it is passed over: as after a resume.
UNPAUSE_SOON = text("""
    UPDATE lanes SET paused_at = NULL, has_work = true, next_attempt_at = now() + interval '1 second'
""")
# As if the events so far were so old.
HOURS_SINCE_REFETCHES = text("UPDATE refetches SET finished_at = finished_at - interval '7 hours'")
TWO_WEEKS_PASS = text("""
    WITH gone AS (DELETE FROM events RETURNING *)
    INSERT INTO events (id, type, actor, data, created_at)
    SELECT id, type, actor, data, created_at - interval '14 days' FROM gone
""")


@dataclass(frozen=True)
class Scenario:
    """A story to be told of a world, and how its workers are set."""

    tell: Callable[[World], Awaitable[None]]
    duties: float
    contested: bool
    env: dict[str, str]

    @property
    def name(self) -> str:
        return self.tell.__name__


SCENARIOS: list[Scenario] = []


def scenario(
    *, duties: float = NEVER, contested: bool = False, **env: str
) -> Callable[[Callable[[World], Awaitable[None]]], Callable[[World], Awaitable[None]]]:
    """Settings of its workers; `duties` are the seconds between two looks at what is due by the clock.

    `contested` tells that Asana refuses what it is asked for, though nothing of ours is in progress.
    """

    def enter(tell: Callable[[World], Awaitable[None]]) -> Callable[[World], Awaitable[None]]:
        SCENARIOS.append(Scenario(tell, duties, contested, env))
        return tell

    return enter


def tasks(world: World, gid: str = "") -> ResourceRequest:
    return resource(gid or world.gid)


def project(world: World) -> GraphRequest:
    return GraphRequest(workspace=world.gid, parent=f"{world.gid}2001")


@scenario()
async def two_exports_share_a_run(world: World) -> None:
    wanted = Submission(tasks(world))
    async with world.sessions.begin() as session:
        exports = [await accept(session, world.tenant.client, wanted, Rules()) for _ in range(2)]
    await world.succeeds(*exports)
    assert await world.count_runs() == 1


@scenario()
async def a_graph(world: World) -> None:
    await world.succeeds(await world.asked(project(world)))


@scenario()
async def a_lost_answer_to_a_graph(world: World) -> None:
    world.jobs_take(LONG)
    world.fault(Call.GRAPH, FaultKind.DROP_AFTER)
    export = await world.asked(project(world))
    await world.reaches(export, lambda run: run.phase is Phase.POLLING)
    world.jobs_take(SHORT)
    await world.succeeds(export)
    assert len(world.sandbox.jobs(world.gid)) == 1


@scenario()
async def a_lost_answer_to_a_resource_export(world: World) -> None:
    world.fault(Call.RESOURCE, FaultKind.DROP_AFTER)
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    assert (await world.run_of(export)).attempt == 1


@scenario(duties=0.2, contested=True, BLOCKED_SECONDS="0.5")
async def somebody_else_holds_the_slot(world: World) -> None:
    world.sandbox.hold_slot(world.gid)
    export = await world.asked(tasks(world))
    await told(world, EventType.LANE_BLOCKED)
    world.sandbox.release_slot(world.gid)
    await world.succeeds(export)
    await told(world, EventType.LANE_UNBLOCKED)
    assert (await world.run_of(export)).attempt == 1


async def told(world: World, event: EventType) -> None:
    """An event about the lane, once."""

    async def look() -> int | None:
        async with world.sessions() as session:
            return (
                await session.scalar(select(func.count()).select_from(Event).where(Event.type == event))
                or None
            )

    assert await until(look, 60, lambda: event) == 1


@scenario(contested=True, PROBE_MIN_SECONDS="0.05", PROBE_MAX_SECONDS="0.2", FORBIDDEN_AFTER_SECONDS="2")
async def another_credential_convicts_the_refused_one(world: World) -> None:
    world.sandbox.add_token("user-" + world.gid, "user-" + world.gid, TokenKind.USER)
    usual = CredentialId(world.tenant.credential)
    ordinary = Credential(
        id=new_credential_id(),
        name="ordinary",
        token=open_vault(world.settings).encrypt(SecretStr("user-" + world.gid)),
        state=CredentialState.VALID,
        asana_user="2",
        asana_user_name="User",
    )
    async with world.sessions.begin() as session:
        session.add(ordinary)
        await session.flush()
        await session.execute(update(Workspace).values(credential=ordinary.id))
    refused = await world.asked(tasks(world))
    async with world.sessions.begin() as session:
        await session.execute(update(Workspace).values(credential=usual))
    other = await world.asked(tasks(world))
    await world.succeeds(other)
    await world.fails(refused, "upstream-forbidden")


@scenario()
async def a_job_fails_and_is_tried_again(world: World) -> None:
    world.fault(Call.RESOURCE, FaultKind.JOB_FAILS)
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    assert (await world.run_of(export)).attempt <= 2


@scenario(MAX_ATTEMPTS="2")
async def jobs_fail_for_good(world: World) -> None:
    world.fault(Call.RESOURCE, FaultKind.JOB_FAILS, times=None)
    export = await world.asked(tasks(world))
    await world.fails(export, "upstream-failed")
    assert (await world.run_of(export)).attempt == 2


@scenario()
async def asana_rejects(world: World) -> None:
    world.fault(Call.RESOURCE, FaultKind.STATUS, times=None, status=400)
    await world.fails(await world.asked(tasks(world)), "upstream-rejected")


@scenario()
async def a_rate_limit(world: World) -> None:
    """Of a token that has two workspaces: the second one learns of it before it calls."""
    other = f"{world.gid}9"
    world.sandbox.put_workspace(other, tasks=20, run_seconds=(SHORT, SHORT))
    async with world.sessions.begin() as session:
        world.tenants[other] = await another_workspace(session, world.tenant, other)
    world.fault(Call.RESOURCE, FaultKind.STATUS, status=429, retry_after=15)
    limited = await world.asked(tasks(world))

    async def known() -> bool | None:
        async with world.sessions() as session:
            if await session.scalar(select(Credential.limited_until)):
                return True
            return (await session.get_one(Export, limited.id)).status in FINAL or None

    await until(known, 60, lambda: "the limit")
    await world.succeeds(limited, await world.asked(tasks(world, other)))


@scenario()
async def a_token_is_replaced_in_the_middle(world: World) -> None:
    world.jobs_take(LONG)
    export = await world.asked(tasks(world))
    job = (await world.reaches(export, lambda run: run.phase is Phase.POLLING)).asana_job
    world.sandbox.revoke_token(world.gid)
    await world.reaches(export, lambda run: run.wait_reason is WaitReason.CREDENTIAL_INVALID)
    await replace(world)
    world.jobs_take(SHORT)
    await world.succeeds(export)
    assert (await world.run_of(export)).asana_job == job


@scenario()
async def a_token_is_replaced_before_the_start(world: World) -> None:
    world.sandbox.revoke_token(world.gid)
    export = await world.asked(tasks(world))
    refused = await world.reaches(export, lambda run: run.wait_reason is WaitReason.CREDENTIAL_INVALID)
    assert refused.status is Status.QUEUED
    await replace(world)
    await world.succeeds(export)


async def replace(world: World) -> None:
    world.sandbox.add_token(f"new-{world.gid}", world.gid)
    async with httpx.AsyncClient(trust_env=False) as http:
        await replace_token(
            world.sessions,
            open_vault(world.settings),
            AsanaClient(http, world.settings.asana_url),
            CredentialId(world.tenant.credential),
            SecretStr(f"new-{world.gid}"),
            Cause("test"),
        )


@scenario(duties=0.2, CREDENTIAL_REPAIR_SECONDS="1")
async def a_token_is_never_replaced(world: World) -> None:
    world.sandbox.revoke_token(world.gid)
    await world.fails(await world.asked(tasks(world)), "credential-revoked")


@scenario()
async def one_is_canceled_while_it_runs_and_one_while_it_is_queued(world: World) -> None:
    world.jobs_take(LONG)
    running, queued = await world.asked(tasks(world)), await world.asked(tasks(world))
    await world.reaches(running, lambda run: run.phase is Phase.POLLING)
    for export in (running, queued):
        await told_to_cancel(world, export)
    following = await world.asked(tasks(world))
    world.jobs_take(SHORT)
    for export in (running, queued):
        await world.is_canceled(export)
    await world.succeeds(following)


@scenario()
async def one_is_canceled_while_it_is_submitted(world: World) -> None:
    world.jobs_take(LONG)
    world.fault(Call.RESOURCE, FaultKind.DELAY, delay=0.5)
    export = await world.asked(tasks(world))
    await world.reaches(export, lambda run: run.phase is not None)
    await told_to_cancel(world, export)
    world.jobs_take(SHORT)
    await world.is_canceled(export)


@scenario()
async def one_is_canceled_while_its_file_is_fetched(world: World) -> None:
    world.fault(Call.FILE, FaultKind.STATUS, times=None, status=503)
    export = await world.asked(tasks(world))
    await world.reaches(export, lambda run: run.wait_reason is WaitReason.BACKOFF)
    await told_to_cancel(world, export)
    await world.is_canceled(export)


async def told_to_cancel(world: World, export: Export) -> None:
    async with world.sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)


@scenario()
async def a_file_is_damaged_once(world: World) -> None:
    world.fault(Call.FILE, FaultKind.BITFLIP)
    await world.succeeds(await world.asked(tasks(world)))


@scenario()
async def a_file_stays_damaged(world: World) -> None:
    world.fault(Call.FILE, FaultKind.BITFLIP, times=None)
    await world.fails(await world.asked(tasks(world)), "artifact-corrupt")
    assert not await world.orphaned_files()


@scenario(duties=0.2)
async def some_wait_too_long_and_some_rise_by_waiting(world: World) -> None:
    lane = LaneKey(world.gid)
    async with world.sessions.begin() as session:
        await pause(session, lane, world.gid, Cause("test"))
    hasty = await world.asked(tasks(world), queue_ttl=1)
    patient = await world.asked(tasks(world), priority=Priority.LOW)
    async with world.sessions.begin() as session:
        a_moment_ago = func.now() - timedelta(seconds=1)
        await session.execute(update(Run).where(Run.id == patient.run).values(promotes_at=a_moment_ago))
    await world.fails(hasty, "queue-ttl-exceeded")
    risen = await world.reaches(patient, lambda run: run.rank < Priority.LOW.rank)
    async with world.sessions.begin() as session:
        await resume(session, lane, world.gid, Cause("test"))
    await world.succeeds(patient)
    assert (await world.run_of(patient)).rank == risen.rank == Priority.NORMAL.rank


@scenario(duties=0.2)
async def a_schedule_is_due(world: World) -> None:
    given = {
        "name": "yearly",
        "cron": "0 0 1 1 *",
        "export": {"workspace": world.gid, "parent": f"{world.gid}2001"},
    }
    async with world.sessions.begin() as session:
        now = await database_now(session)
        spec = ScheduleSpec.model_validate(given)
        schedule = await create_schedule(session, world.tenant.client, spec, Rules(), now, Cause("test"))
        await session.execute(update(Schedule).values(next_slot=now, fires_at=now))

    async def fired() -> Export | None:
        async with world.sessions() as session:
            return (await session.scalars(select(Export).where(Export.schedule == schedule))).one_or_none()

    export = await until(fired, 60, lambda: "the export of a schedule")
    await world.succeeds(export)
    async with world.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Export)) == 1
        assert (await session.get_one(Schedule, schedule)).next_slot > now
        reached = (await session.get_one(Watermark, schedule)).moment
        assert reached == (await session.get_one(Run, export.run)).data_from


@scenario(duties=0.2)
async def an_export_comes_too_late(world: World) -> None:
    world.jobs_take(LONG)
    export = await world.asked(tasks(world), deliver_by=datetime.now(UTC))
    await told(world, EventType.EXPORT_AT_RISK)
    world.jobs_take(SHORT)
    await world.succeeds(export)
    await told(world, EventType.EXPORT_AT_RISK)


@scenario()
async def a_worker_is_told_to_stop(world: World) -> None:
    world.jobs_take(LONG)
    export = await world.asked(tasks(world))
    job = (await world.reaches(export, lambda run: run.phase is Phase.POLLING)).asana_job
    world.lives[-1].signal(signal.SIGTERM)
    await world.lives[0].ended()
    world.jobs_take(SHORT)
    await world.succeeds(export)
    assert (await world.run_of(export)).asana_job == job


@scenario()
async def a_lane_is_passed_over_because_it_is_locked(world: World) -> None:
    lane = LaneKey(world.gid)
    async with world.sessions.begin() as session:
        await pause(session, lane, world.gid, Cause("test"))
    export = await world.asked(tasks(world))
    async with world.sessions.begin() as session:
        await session.execute(UNPAUSE_SOON)
    async with world.sessions.begin() as session:
        await lock_lane(session, lane)
        await until_somebody_waits(world.sessions)
    await world.succeeds(export)


@scenario(duties=0.2, WEBHOOK_ALLOW="127.0.0.0/8", WEBHOOK_ALLOW_HTTP="true", WEBHOOK_TIMEOUT_SECONDS="8")
async def a_receiver_that_has_failed_is_told_again(world: World) -> None:
    refusals = [answer(500)]

    async def receive(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(refusals.pop() if refusals else answer(204))

    async def delivered() -> bool | None:
        async with world.sessions() as session:
            return await session.scalar(select(WebhookDelivery.state)) == DeliveryState.DELIVERED or None

    async with serving(receive) as receiver:
        async with world.sessions.begin() as session:
            vault, client = open_vault(world.settings), world.tenant.client
            await an_endpoint(session, vault, client, receiver.url, types=("export.succeeded",))
        export = await world.asked(tasks(world))
        await world.succeeds(export)
        await until(delivered, 60, lambda: "the delivery")
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


@scenario()
async def a_file_is_made_into_parquet_when_the_store_can_be_read_again(world: World) -> None:
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    (stored,) = folder_of(world.settings).glob(f"{world.gid}/*")
    hidden = stored.rename(world.folder / f"{world.gid}-hidden")
    stored.symlink_to(stored)
    artifact = await world.asked_as(export, Format.PARQUET)
    await world.conversion(artifact, Format.PARQUET, lambda found: found.not_before > found.requested_at)
    hidden.replace(stored)
    made = await world.conversion(artifact, Format.PARQUET, lambda found: found.finished_at is not None)
    assert made.state is ConversionState.READY


@scenario()
async def a_file_that_was_damaged_since_is_not_made_into_csv(world: World) -> None:
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    (stored,) = folder_of(world.settings).glob(f"{world.gid}/*")
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1])
    artifact = await world.asked_as(export, Format.CSV)
    failed = await world.conversion(artifact, Format.CSV, lambda found: found.finished_at is not None)
    assert (failed.error or {})["code"] == "not-convertible"
    stored.write_bytes(whole)


@scenario(duties=0.2)
async def a_file_expires_and_its_bytes_go(world: World) -> None:
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    await world.put_back(expires_at="1 hour")
    await world.artifact(export, lambda file: file.state is ArtifactState.EXPIRED)
    await world.put_back(ended_at="7 hours")
    await world.artifact(export, lambda file: file.removed_at is not None)
    assert not [*folder_of(world.settings).glob(f"{world.gid}/*")]


@scenario(duties=0.2)
async def a_file_is_lost_and_another_is_nobodys(world: World) -> None:
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    (stored,) = folder_of(world.settings).glob(f"{world.gid}/*")
    stray = stored.with_name(f"{export.run}-99.jsonl.gz")
    stray.touch()
    os.utime(stray, (1, 1))
    world.fault(Call.FILE, FaultKind.STATUS, status=503)
    stored.unlink()
    await world.artifact(export, lambda file: file.missing_since is None and file.key not in str(stored))
    async with world.sessions.begin() as session:
        await session.execute(HOURS_SINCE_REFETCHES)
    await world.succeeds(export)

    async def gone() -> bool | None:
        return not stray.exists() or None

    await until(gone, 60, lambda: f"the end of {stray}")


@scenario(duties=0.2)
async def a_lost_file_that_asana_has_no_longer_is_put_back(world: World) -> None:
    export = await world.asked(tasks(world))
    await world.succeeds(export)
    (stored,) = folder_of(world.settings).glob(f"{world.gid}/*")
    world.fault(Call.FILE, FaultKind.STATUS, times=None, status=404)
    hidden = stored.rename(world.folder / f"{world.gid}-hidden")
    await world.artifact(export, lambda file: file.missing_since is not None)

    async def failed() -> Refetch | None:
        async with world.sessions() as session:
            return await session.scalar(select(Refetch).where(Refetch.state == RefetchState.FAILED))

    assert ((await until(failed, 60, lambda: "a failure")).error or {})["code"] == "upstream-artifact-expired"
    hidden.rename(stored)
    await world.artifact(export, lambda file: file.missing_since is None)


@scenario(duties=0.2, EVENT_RETENTION_DAYS="7")
async def events_are_forgotten(world: World) -> None:
    async with world.sessions.begin() as session:
        await record(session, EventType.SECRETS_ROTATED, actor="two weeks ago")
        await session.execute(TWO_WEEKS_PASS)

    async def forgotten() -> bool | None:
        async with world.sessions() as session:
            return (await session.get_one(EventFeed, True)).forgotten_position > 0 or None

    await until(forgotten, 60, lambda: "events to be forgotten")
    await world.succeeds(await world.asked(tasks(world)))
