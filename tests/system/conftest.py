"""A service of real processes, in a hurry: sandbox Asana, PostgreSQL, and workers started by each test."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import open_vault
from app.artifacts.store import open_store
from app.events.log import Event
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Export, Run
from app.exports.requests import ExportRequest
from app.exports.states import FINAL
from app.sandbox.control import SandboxControl
from app.settings import Settings
from tests.builders import Tenant, a_tenant, another_workspace
from tests.conftest import a_secret_key
from tests.history import check_history
from tests.postgres import patient_database
from tests.processes import Process, until, variables_of

# For a worker that will be killed, or stopped: others have to wait until its lease is over. Any other keeps
# its lease though the whole machine stands still for some seconds.
BRIEFLY = {"LEASE_SECONDS": "3"}
# The variables with which a command is of another one.
THIS_VERSION: Mapping[str, str] = {}


@dataclass
class Service:
    """The service under test. Exports are submitted and watched through its own domain functions."""

    settings: Settings
    sessions: async_sessionmaker[AsyncSession]
    sandbox: SandboxControl
    tenants: dict[str, Tenant]
    folder: Path
    stack: ExitStack
    variables: dict[str, str] = field(default_factory=dict)
    workers: list[Process] = field(default_factory=list)
    apis: list[Process] = field(default_factory=list)

    def worker(self, version: Mapping[str, str] = THIS_VERSION, /, **env: str) -> Process:
        log = self.folder / f"worker-{len(self.workers)}.log"
        process = Process(log, "worker", env=self.env(**env) | {**version})
        self.workers.append(self.stack.enter_context(process))
        return process

    def api(self, version: Mapping[str, str] = THIS_VERSION, /, **env: str) -> Process:
        log = self.folder / f"api-{len(self.apis)}.log"
        process = Process(log, "api", env=self.env(**{"PORT": "0"} | env) | {**version})
        self.apis.append(self.stack.enter_context(process))
        return process

    def env(self, **env: str) -> dict[str, str]:
        given = variables_of(self.settings) | {
            "ASANA_TIMEOUT_SECONDS": "5",
            "POLL_MIN_SECONDS": "0.05",
            "POLL_MAX_SECONDS": "0.3",
            "PROBE_MIN_SECONDS": "0.2",
            "PROBE_MAX_SECONDS": "1",
            "BACKOFF_MIN_SECONDS": "0.1",
            "BACKOFF_MAX_SECONDS": "0.5",
            "IDLE_POLL_SECONDS": "0.3",
            "BEAT_SECONDS": "0.5",
        }
        return {f"ASANA_EXPORTS_{name}": value for name, value in (given | self.variables | env).items()}

    async def submit(self, request: ExportRequest) -> Export:
        async with self.sessions.begin() as session:
            client = self.tenants[request.workspace].client
            return await accept(session, client, Submission(request), Rules())

    async def run_of(self, export: Export) -> Run:
        async with self.sessions() as session:
            return await session.get_one(Run, export.run)

    async def until_run(self, export: Export, is_so: Callable[[Run], bool], within: float = 20) -> Run:
        """The export's run, as soon as something is true of it."""

        async def look() -> Run | None:
            run = await self.run_of(export)
            return run if is_so(run) else None

        return await until(look, within, lambda: f"{export.id}; logs:\n{self._logs()}")

    async def finished(self, *exports: Export, within: float = 30) -> list[Export]:
        """The exports, once all of them are final."""
        ids = [export.id for export in exports]

        async def look() -> list[Export] | None:
            async with self.sessions() as session:
                found = (
                    await session.scalars(select(Export).where(Export.id.in_(ids)).order_by(Export.id))
                ).all()
            return list(found) if all(export.status in FINAL for export in found) else None

        return await until(look, within, lambda: f"the end of {ids}; logs:\n{self._logs()}")

    async def events(self, export: Export) -> list[Event]:
        async with self.sessions() as session:
            rows = await session.scalars(select(Event).where(Event.export == export.id).order_by(Event.seq))
            return list(rows)

    def _logs(self) -> str:
        return "\n".join(worker.output()[-4000:] for worker in self.workers)


WORKSPACES = ("1001", "1002", "1003", "1004", "1005")


@pytest.fixture
async def service(
    sandbox: SandboxControl, database_url: str, store_url: str, tmp_path: Path
) -> AsyncIterator[Service]:
    settings = Settings(
        database_url=database_url,
        data_dir=tmp_path / "data",
        secret_keys=(a_secret_key(),),
        asana_url=sandbox.api_url,
        store_url=store_url,
    )
    async with patient_database(settings) as database:
        with ExitStack() as stack:
            async with database.sessions.begin() as session:
                first = await a_tenant(session, open_vault(settings), WORKSPACES[0])
                others = {gid: await another_workspace(session, first, gid) for gid in WORKSPACES[1:]}
            yield Service(
                settings, database.sessions, sandbox, {WORKSPACES[0]: first, **others}, tmp_path, stack
            )
        await check_history(database.sessions, open_store(settings.files_url))
