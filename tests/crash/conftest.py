"""Many services at once, each with a database and a workspace of its own, whose processes die."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Interval, cast, func, select, text, update

from app.access.vault import open_vault
from app.artifacts.models import Artifact, Conversion, OutputFile
from app.artifacts.outputs import Format
from app.artifacts.store import open_store
from app.database.session import open_database
from app.events.log import Cause, Event
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Export, Run, Status
from app.exports.outputs import ask_for_conversion
from app.exports.requests import ExportRequest
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.sandbox.journal import JournalEntry
from app.settings import Settings
from tests.builders import Tenant, a_tenant
from tests.conftest import a_secret_key
from tests.crash.victim import Death, Mortal, be_ready_to_fork
from tests.history import check_history
from tests.postgres import copied_database
from tests.processes import until
from tests.stores import folder_of
from tests.system.conftest import Service
from tests.system.exports import assert_verified

# As good as waiting for the end of its lease, once the process is known to be dead.
LEASES_END = text("UPDATE workers SET lease_expires_at = now() - interval '1 second'")
PATIENCE = 60.0
NEVER = 1e6
AT_ONCE = 5


@dataclass
class World(Service):
    """A service of its own."""

    gid: str = ""
    env_of_all: dict[str, str] = field(default_factory=dict)
    duties: float = NEVER
    lives: list[Mortal] = field(default_factory=list)

    @property
    def tenant(self) -> Tenant:
        return self.tenants[self.gid]

    def start(self, command: str, death: Death | None = None) -> Mortal:
        env = self.env(
            PORT="0", LEASE_SECONDS="20", BEAT_SECONDS="0.2", DATABASE_POOL_SIZE="3", **self.env_of_all
        )
        log = self.folder / f"{self.gid}-{command}-{len(self.lives)}.log"
        life = Mortal(log, command, env=env, duties=self.duties, death=death)
        self.stack.enter_context(life)
        self.lives.append(life)
        self.workers.append(life)
        return life

    @asynccontextmanager
    async def kept_alive(self, command: str, death: Death | None = None) -> AsyncIterator[None]:
        """Let a process run that is replaced by a healthy one whenever it has ended."""

        async def keep() -> None:
            life = self.start(command, death)
            while True:
                await life.ended(NEVER)
                async with self.sessions.begin() as session:
                    await session.execute(LEASES_END)
                life = self.start(command)

        keeping = asyncio.create_task(keep())
        try:
            yield
            if death:
                await self.lives[0].has_died()
            assert all(life.code in {None, 0, -signal.SIGTERM} for life in self.lives[1:])
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping

    async def asked(self, request: ExportRequest, **how: Any) -> Export:
        async with self.sessions.begin() as session:
            return await accept(session, self.tenant.client, Submission(request, **how), Rules())

    async def reaches(self, export: Export, is_so: Callable[[Run], bool]) -> Run:
        return await self.until_run(export, is_so, PATIENCE)

    async def succeeds(self, *exports: Export) -> None:
        for export in await self.finished(*exports, within=PATIENCE):
            await assert_verified(self, export)

    async def fails(self, export: Export, code: str) -> None:
        (export,) = await self.finished(export, within=PATIENCE)
        assert (export.status, (export.error or {}).get("code")) == (Status.FAILED, code)

    async def is_canceled(self, export: Export) -> None:
        (export,) = await self.finished(export, within=PATIENCE)
        assert export.status is Status.CANCELED

    def fault(self, call: Call, kind: FaultKind, *, times: int | None = 1, **how: Any) -> None:
        self.sandbox.add_fault(call, kind, times=times, workspace=self.gid, **how)

    def jobs_take(self, seconds: float) -> None:
        """From now on, by the sandbox's clock; those that are in progress end now if theirs are short."""
        self.sandbox.put_workspace(self.gid, run_seconds=(seconds, seconds))
        if seconds < PATIENCE:
            for job in self.sandbox.jobs(self.gid):
                if job.status not in {"succeeded", "failed"}:
                    self.sandbox.end_job(job.gid)

    def calls(self, call: Call) -> list[JournalEntry]:
        return self.sandbox.journal(call=call, workspace=self.gid)

    async def lost_jobs(self) -> set[str]:
        """What Asana has begun without our hearing of it."""
        job = Event.data["asana_job_gid"].astext
        async with self.sessions() as session:
            known = set(await session.scalars(select(job).where(job.is_not(None)).distinct()))
        return {job.gid for gid in self.tenants for job in self.sandbox.jobs(gid)} - known

    async def orphaned_files(self) -> set[str]:
        """Files that no artifact names."""
        folder = folder_of(self.settings)
        kept = {path.relative_to(folder).as_posix() for path in folder.glob("[0-9]*/*")}
        async with self.sessions() as session:
            kept -= set(await session.scalars(select(OutputFile.key)))
            return kept - set(await session.scalars(select(Artifact.key)))

    async def asked_as(self, export: Export, form: Format) -> Artifact:
        """Its file is wanted in another format."""
        async with self.sessions.begin() as session:
            artifact = (await session.scalars(select(Artifact).where(Artifact.run == export.run))).one()
            await ask_for_conversion(session, self.tenant.client, artifact.id, form, Cause("test"))
        return artifact

    async def conversion(
        self, artifact: Artifact, form: Format, is_so: Callable[[Conversion], bool]
    ) -> Conversion:
        async def look() -> Conversion | None:
            async with self.sessions() as session:
                found = await session.get_one(Conversion, (artifact.id, form))
            return found if is_so(found) else None

        return await until(look, PATIENCE, lambda: f"{artifact.id} as {form}")

    async def artifact(self, export: Export, is_so: Callable[[Artifact], bool]) -> Artifact:
        """The export's file, as soon as something is true of it."""

        async def look() -> Artifact | None:
            async with self.sessions() as session:
                found = (await session.scalars(select(Artifact).where(Artifact.run == export.run))).one()
            return found if is_so(found) else None

        return await until(look, PATIENCE, lambda: f"the file of {export.id}")

    async def put_back(self, **moments: str) -> None:
        """Let moments of artifacts be so long ago."""
        ago = {name: func.now() - cast(span, Interval) for name, span in moments.items()}
        async with self.sessions.begin() as session:
            await session.execute(update(Artifact).values(ago))

    async def count_runs(self) -> int:
        async with self.sessions() as session:
            return await session.scalar(select(func.count()).select_from(Run)) or 0


@dataclass
class Worlds:
    """Makes them, a few at a time."""

    postgres_url: str
    template: str
    sandbox: SandboxControl
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: count(2001))
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    @asynccontextmanager
    async def new(self, *, duties: float = NEVER, **env: str) -> AsyncIterator[World]:
        async with self.room:
            gid = str(next(self.numbers))
            with copied_database(self.postgres_url, self.template) as url:
                settings = Settings(
                    database_url=url,
                    data_dir=self.folder / gid,
                    secret_keys=(a_secret_key(),),
                    asana_url=self.sandbox.api_url,
                    # Its other meaning is for how long the test may be busy in a transaction.
                    lease_seconds=PATIENCE,
                )
                self.sandbox.put_workspace(gid, tasks=20, messages=5, run_seconds=(10, 10))
                self.sandbox.add_token(f"planted-token-{gid}", gid)
                async with open_database(settings) as database:
                    async with database.sessions.begin() as session:
                        tenant = await a_tenant(session, open_vault(settings), gid, f"planted-token-{gid}")
                    with ExitStack() as stack:
                        yield World(
                            settings, database.sessions, self.sandbox, {gid: tenant}, self.folder, stack,
                            gid=gid, env_of_all=env, duties=duties,
                        )  # fmt: skip
                    await check_history(database.sessions, open_store(settings.files_url))


@pytest.fixture
def worlds(postgres_url: str, template: str, sandbox: SandboxControl, tmp_path: Path) -> Worlds:
    # Before any of the tests is in the middle of something, for this takes seconds.
    be_ready_to_fork()
    return Worlds(postgres_url, template, sandbox, tmp_path)
