"""A small world for stepped workers: two clients, workspaces and tokens, and an Asana whose clock stands."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from traceback import format_exc
from typing import Any

import httpx
import structlog
from pydantic import SecretStr
from sqlalchemy import DateTime, select, text
from structlog.typing import EventDict

from app.access.clients import (
    ClientSpec,
    GrantSpec,
    client_by_id,
    client_by_key,
    create_client,
    replace_key,
    revoke_client,
)
from app.access.credentials import register_workspace, replace_token
from app.access.models import Credential, CredentialState, Priority, Scope, Workspace
from app.access.vault import Vault, open_vault
from app.artifacts.store import Store, open_store
from app.asana.client import AsanaClient
from app.database.base import Base
from app.database.session import Database, open_database
from app.events.log import Cause
from app.exports.accept import Rules, Submission, accept
from app.exports.cancel import cancel
from app.exports.models import Export, Run, Status
from app.exports.reading import visible_export
from app.exports.requests import ExportRequest, GraphRequest, ResourceRequest, stored_request
from app.exports.states import FINAL
from app.ids import ClientId, CredentialId, ExportId, LaneKey, new_credential_id, new_worker_id
from app.lanes import control
from app.problems import Code, ProblemError
from app.sandbox.control import SandboxControl
from app.sandbox.panel import JobView
from app.settings import Settings
from app.webhooks.places import Places
from app.worker.backoff import Backoff
from app.worker.context import Context
from app.worker.lease import Lease
from app.worker.upstream import Upstream
from tests.model.stage import (
    LossySessions,
    Stage,
    StageClock,
    SteppedCalls,
    SteppedSessions,
    SteppedTransactions,
    SteppedWorker,
    Story,
)

LEASE_SECONDS, BEAT_SECONDS = 3000.0, 1000.0
WORKSPACES = {"1001": "one", "1002": "two"}
GRANTS = {"ada": ("1001", "1002"), "bob": ("1001",)}
ADMIN = Cause("admin")

TABLES = [table for table in Base.metadata.sorted_tables if table.name != "alembic_version"]
MOMENTS = {
    table.name: [column.name for column in table.columns if isinstance(column.type, DateTime)]
    for table in TABLES
}
# Events never change. By its `updated_at` a token is told from the one before.
MOMENTS = {
    table: [name for name in names if (table, name) != ("credentials", "updated_at")]
    for table, names in MOMENTS.items()
    if names and table != "events"
}
# As if so much time had passed: all that is written down is so much older.
AGE = """
    CREATE OR REPLACE FUNCTION age_all(seconds double precision) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE passed interval := make_interval(secs => seconds);
    BEGIN {} END $$
""".format(
    "".join(
        f"UPDATE {table} SET {', '.join(f'{name} = {name} - passed' for name in names)};"
        for table, names in MOMENTS.items()
    )
)
EMPTY = text(f"TRUNCATE {', '.join(table.name for table in TABLES)} CASCADE")


def asked_for(workspace: str, what: str) -> ExportRequest:
    match what:
        case "project":
            return GraphRequest(workspace=workspace, parent=f"{workspace}2001")
        case "portfolio":
            return GraphRequest(workspace=workspace, parent=f"{workspace}3001")
        case _:
            items = [{"resource_type": what}]
            return ResourceRequest.model_validate(
                {"workspace": workspace, "export_request_parameters": items}
            )


@dataclass
class Caller:
    """A client as itself knows it."""

    id: ClientId
    key: str
    grants: tuple[str, ...]
    revoked: bool = False


@dataclass
class World:
    """Everything there is, and the acts of those who are not workers."""

    settings: Settings
    database: Database
    sandbox: SandboxControl
    http: httpx.AsyncBaseTransport
    stage: Stage
    workers: dict[int, SteppedWorker] = field(default_factory=dict)
    callers: dict[str, Caller] = field(default_factory=dict)
    credentials: dict[str, CredentialId] = field(default_factory=dict)
    opened_by: dict[str, str] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)
    without_token: set[str] = field(default_factory=set)
    tokens: int = 0
    _jobs: tuple[int, float, list[JobView]] = 0, 0.0, []

    @property
    def vault(self) -> Vault:
        return open_vault(self.settings)

    @property
    def store(self) -> Store:
        return open_store(self.settings.files_url)

    @property
    def asana(self) -> AsanaClient:
        return AsanaClient(self._client(self.http), self.settings.asana_url)

    def _client(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=transport, trust_env=False, timeout=60)

    async def begin(self) -> None:
        """Fill an empty database and an Asana without jobs."""
        self.sandbox.reset()
        async with self.database.sessions.begin() as session:
            await session.execute(EMPTY)
            for name, grants in GRANTS.items():
                spec = ClientSpec(
                    name=name,
                    scopes=(Scope.EXPORTS_WRITE, Scope.EXPORTS_READ),
                    grants=tuple(
                        GrantSpec(workspace=gid, highest_priority=Priority.URGENT) for gid in grants
                    ),
                )
                client, key = await create_client(session, spec, ADMIN)
                self.callers[name] = Caller(client.id, key, grants)
            for name in WORKSPACES.values():
                credential = Credential(
                    id=new_credential_id(),
                    name=name,
                    token=self.vault.encrypt(self._new_token(name)),
                    state=CredentialState.VALID,
                    asana_user="1100",
                    asana_user_name=name,
                )
                session.add(credential)
                self.credentials[name] = credential.id
            await session.flush()
            for gid, name in WORKSPACES.items():
                session.add(Workspace(gid=gid, name=gid, credential=self.credentials[name]))
                self.opened_by[gid] = name

    def _new_token(self, name: str) -> SecretStr:
        self.tokens += 1
        self.sandbox.add_token(f"{name}-{self.tokens}", name)
        return SecretStr(f"{name}-{self.tokens}")

    async def submit(self, caller: str, wanted: Submission) -> ExportId | Code | None:
        """The export, or why not; None for a caller that is not let in."""
        try:
            async with self.database.sessions.begin() as session:
                client = await client_by_key(session, self.callers[caller].key)
                return (await accept(session, client, wanted, Rules())).id if client else None
        except ProblemError as error:
            return error.problem.code

    def refusal(self, caller: str, workspace: str) -> Code | None:
        """Why an export of the workspace is not accepted from a caller that is let in."""
        if workspace not in self.callers[caller].grants:
            return Code.NOT_FOUND
        return Code.LANE_DRAINING if workspace in self.draining else None

    async def again(self, export: ExportId) -> Submission | None:
        """The same for another time, if it is over."""
        async with self.database.sessions() as session:
            ended = await session.get_one(Export, export)
        if ended.status not in FINAL:
            return None
        request = stored_request(ended.kind, ended.workspace, ended.request)
        return Submission(request, ended.priority, labels=ended.labels, retry_of=ended.id)

    async def cancel(self, caller: str, export: ExportId) -> Status | Code:
        """What it is then, or why it cannot be canceled."""
        try:
            async with self.database.sessions.begin() as session:
                client = await client_by_id(session, self.callers[caller].id)
                await visible_export(session, client, export)
                return (await cancel(session, export, actor=client.actor, request_id=None)).status
        except ProblemError as error:
            return error.problem.code

    async def let_in_or_out(self, caller: str) -> None:
        known = self.callers[caller]
        async with self.database.sessions.begin() as session:
            if known.revoked:
                _, known.key = await replace_key(session, known.id, ADMIN)
            else:
                await revoke_client(session, known.id, ADMIN)
        known.revoked = not known.revoked

    async def pause(self, workspace: str) -> None:
        async with self.database.sessions.begin() as session:
            await control.pause(session, LaneKey(workspace), workspace, ADMIN)
        self.paused.add(workspace)

    async def drain(self, workspace: str) -> None:
        async with self.database.sessions.begin() as session:
            await control.drain(session, LaneKey(workspace), workspace, ADMIN)
        self.draining.add(workspace)

    async def resume(self, workspace: str) -> None:
        async with self.database.sessions.begin() as session:
            await control.resume(session, LaneKey(workspace), workspace, ADMIN)
        self.paused.discard(workspace)
        self.draining.discard(workspace)

    async def open_by(self, workspace: str, name: str) -> None:
        credential = self.credentials[name]
        await register_workspace(self.database.sessions, self.vault, self.asana, workspace, credential, ADMIN)
        self.opened_by[workspace] = name

    async def revoke_or_replace_token(self, name: str) -> None:
        if name in self.without_token:
            token, credential = self._new_token(name), self.credentials[name]
            await replace_token(self.database.sessions, self.vault, self.asana, credential, token, ADMIN)
        else:
            self.sandbox.revoke_token(name)
        self.without_token ^= {name}

    async def heal(self) -> None:
        """Nothing goes wrong from now on."""
        self.sandbox.clear_faults()
        for workspace in WORKSPACES:
            self.sandbox.release_slot(workspace)
            await self.resume(workspace)
        for name in sorted(self.without_token):
            await self.revoke_or_replace_token(name)

    async def start_worker(self, number: int) -> None:
        settings, stage = self.settings, self.stage
        clock, chance = StageClock(stage), Random(number)
        sessions = LossySessions(self.database.engine, expire_on_commit=False)
        write = SteppedTransactions(stage, sessions, clock, LEASE_SECONDS)
        calls = self._client(SteppedCalls(stage, self.http))
        asana = AsanaClient(calls, settings.asana_url)
        ctx = Context(
            settings=settings,
            clock=clock,
            random=chance,
            backoff=Backoff(settings.backoff_min_seconds, settings.backoff_max_seconds, chance),
            until_probe=Backoff(settings.probe_min_seconds, settings.probe_max_seconds, chance),
            write=write,
            upstream=Upstream(asana, write, self.vault, clock, settings.asana_calls_per_minute),
            downloads=calls,
            store=self.store,
            vault=self.vault,
            receivers=calls,
            places=Places(),
            lease=Lease(clock, new_worker_id(), LEASE_SECONDS),
        )
        stepped = SteppedSessions(self.database.engine, expire_on_commit=False)
        database = replace(self.database, sessions=stepped, vitals=stepped)
        self.workers[number] = SteppedWorker(number, stage, ctx, database)
        await self.workers[number].register()

    async def pass_time(self, seconds: float, *, asleep: SteppedWorker | None = None) -> None:
        """Time passes, through which all beat who are not asleep."""
        while seconds > 0:
            some = min(seconds, BEAT_SECONDS)
            self.stage.time += some
            self.sandbox.advance(some)
            async with self.database.sessions.begin() as session:
                await session.execute(text("SELECT age_all(:seconds)"), {"seconds": some})
            for worker in self.living():
                if worker is not asleep:
                    await worker.keep("beat")
            seconds -= some

    def living(self) -> list[SteppedWorker]:
        return [worker for worker in self.workers.values() if not worker.life.done()]

    def ready(self, *kinds: str) -> list[Story]:
        """The stories of these kinds that may go on."""
        return [story for kind in kinds for worker in self.living() for story in worker.ready(kind)]

    @property
    def is_at_work(self) -> bool:
        """Whether a worker is about a lane or a file, be it asleep."""
        return any(story.name.startswith(("lane", "archive")) for story in self.stage.stories)

    async def tell(self, worker: SteppedWorker) -> None:
        """Deliver all notifications."""
        async with self.database.sessions() as session:
            canceled = await session.scalars(select(Run).where(Run.status == Status.CANCELED))
            await worker.hear(canceled.all())

    async def go_on(self, turn: int) -> str:
        """The next step of whatever is at work; else news; else time. Tells which."""
        at_work = "lane", "archive", "leave"
        if not self.ready(*at_work):
            for worker in self.living():
                await self.tell(worker)
        if stories := self.ready(*at_work):
            story = stories[turn % len(stories)]
            told = str(story)
            await self.stage.step(story)
            return told
        await self.pass_time(200)
        return "time passes"

    async def end(self, worker: SteppedWorker, how: str) -> None:
        match how:
            case "terminated":
                worker.stop.set()
                await self.stage.settled()
            case "killed":
                await worker.kill()
            case _:
                # Stopped for longer than its lease, it goes on without knowing of it.
                await self.pass_time(LEASE_SECONDS + 1, asleep=worker)

    async def is_over(self) -> bool:
        """Whether every export has come to its end."""
        unfinished = select(Export.id).where(Export.status.not_in(FINAL)).limit(1)
        async with self.database.sessions() as session:
            return await session.scalar(unfinished) is None

    async def kill_all(self) -> None:
        for worker in self.living():
            await worker.kill()

    def jobs(self) -> list[JobView]:
        """What there is at Asana, asked for only if it may have changed."""
        calls, time, jobs = self._jobs
        if (calls, time) != (self.stage.calls, self.stage.time):
            jobs = self.sandbox.jobs()
        self._jobs = self.stage.calls, self.stage.time, jobs
        return jobs


@asynccontextmanager
async def open_world(settings: Settings, sandbox: SandboxControl) -> AsyncIterator[Callable[[], World]]:
    """What makes one world after the other, in one database."""
    async with open_database(settings) as database, httpx.AsyncHTTPTransport() as http:
        async with database.engine.begin() as connection:
            await connection.execute(text(AGE))
        faults: list[str] = []

        def new_world() -> World:
            faults.clear()
            return World(settings, database, sandbox, http, Stage(faults))

        with _crashes_noted(faults):
            yield new_world


@contextmanager
def _crashes_noted(faults: list[str]) -> Iterator[None]:
    """What a worker catches of its own faults, so as to go on, is a fault nevertheless."""

    def note(_: Any, __: str, event: EventDict) -> EventDict:
        if event["event"].endswith(".crashed") or event["event"] == "sweep.lanes_mended":
            faults.append(f"{event['event']}: {format_exc()}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[note])
    try:
        yield
    finally:
        structlog.configure(**before)
