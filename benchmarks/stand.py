"""A service to be measured: PostgreSQL as it is made for users, a sandbox Asana, and processes of ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import insert

from app.access.models import Workspace
from app.access.vault import open_vault
from app.database.embedded import DATABASE, SUPERUSER, EmbeddedPostgres
from app.database.migrate import migrate
from app.database.session import Database, open_database
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Export
from app.exports.requests import ResourceRequest
from app.sandbox.control import SandboxControl
from app.settings import ENV_PREFIX, Settings
from tests.builders import Tenant, a_tenant, unlike_others
from tests.processes import Process, variables_of


class MeasuredPostgres(EmbeddedPostgres):
    """A server as it is made for users, with PostgreSQL's own load generator."""

    def pgbench(self, script: Path, clients: int, seconds: int) -> float:
        """Transactions a second."""
        done = self._run(
            "pgbench", "--host", self.socket_folder, "--username", SUPERUSER, "--no-vacuum",
            "--client", str(clients), "--time", str(seconds), "--file", script, DATABASE,
        )  # fmt: skip
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("tps = ")]
        return float(line.split()[2])


@dataclass
class Stand:
    """What is measured, and by what it is reached."""

    folder: Path
    server: MeasuredPostgres
    settings: Settings
    database: Database
    sandbox: SandboxControl
    tenant: Tenant
    _stack: ExitStack

    def start(self, *command: str, **env: str) -> Process:
        """A process of ours, with settings of its own."""
        given = variables_of(self.settings) | {"ASANA_CALLS_PER_MINUTE": "1000000", "PORT": "0"}
        log = self.folder / f"{'-'.join(command)}-{len(list(self.folder.glob('*.log')))}.log"
        variables = {ENV_PREFIX + name: value for name, value in (given | env).items()}
        return self._stack.enter_context(Process(log, *command, env=variables))

    async def submit(self, workspace: str) -> Export:
        """All tasks of a workspace, by a request that shares no run."""
        items = [{"resource_type": "task"} | unlike_others("task")]
        asked = {"workspace": workspace, "export_request_parameters": items}
        wanted = Submission(ResourceRequest.model_validate(asked))
        async with self.database.sessions.begin() as session:
            return await accept(session, self.tenant.client, wanted, Rules())


@asynccontextmanager
async def a_stand(*sandbox_options: str, workspaces: int = 5) -> AsyncIterator[Stand]:
    """With so many workspaces, from 1001 on, all by one token."""
    with TemporaryDirectory(prefix="asana-exports-benchmark-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        server = MeasuredPostgres(folder / "data")
        await asyncio.to_thread(server.start)
        stack.callback(server.stop)
        options = [f"--workspace={gid}:100" for gid in range(1001, 1001 + workspaces)]
        sandbox = stack.enter_context(
            Process(
                folder / "sandbox.log", "sandbox", "--port", "0", "--requests-per-minute", "0",
                "--concurrent-jobs", "0", *options, *sandbox_options,
            )
        )  # fmt: skip
        control = stack.enter_context(SandboxControl(await sandbox.address()))
        settings = Settings(
            database_url=server.url,
            data_dir=folder / "data",
            secret_keys=(SecretStr(Fernet.generate_key().decode()),),
            asana_url=control.api_url,
        )
        async with open_database(settings) as database:
            await migrate(database.engine)
            async with database.sessions.begin() as session:
                tenant = await a_tenant(session, open_vault(settings), "1001")
                rows = [
                    {"gid": str(gid), "name": f"Workspace {gid}", "credential": tenant.credential}
                    for gid in range(1002, 1001 + workspaces)
                ]
                if rows:
                    await session.execute(insert(Workspace), rows)
            yield Stand(folder, server, settings, database, control, tenant, stack)
            # Processes first, then what they talk to.
            stack.pop_all().close()
