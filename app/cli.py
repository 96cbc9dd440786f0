"""The command `asana-exports`."""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx
import typer
import uvicorn
from prometheus_client import start_http_server
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sqlalchemy.exc import OperationalError

from app.access.clients import (
    ClientSpec,
    GrantSpec,
    all_clients,
    any_client,
    client_by_name,
    create_client,
    revoke_client,
)
from app.access.credentials import rotate_keys
from app.access.models import ALL_WORKSPACES, Client, Kind, Priority, Scope
from app.access.signing import new_signing_key
from app.access.vault import VaultError, open_vault
from app.api.services import Services, open_services
from app.artifacts.receipt import NotSigned, differences, read
from app.artifacts.store import open_store
from app.database.embedded import EmbeddedPostgresError
from app.database.migrate import is_behind
from app.database.migrate import migrate as migrate_database
from app.database.session import Database, UnsupportedServer, open_database
from app.demo import DemoFailed, run_demo
from app.events.log import Cause
from app.exports.history import Violation, violations
from app.exports.requests import only_type
from app.exports.restoring import Restored, StillServed, go_on, unknown
from app.local import PartFailed, against, end_with_parent, running
from app.logs import set_up_logs
from app.main import create_app
from app.problems import ProblemError
from app.sandbox import SERVICE_TOKEN
from app.sandbox.__main__ import main as serve_sandbox
from app.settings import Settings
from app.traces import TracesMissing, set_up_traces
from app.worker.process import run_worker

# Jobs of the sandbox take seconds instead of minutes, but not so few that there is nothing to watch.
SANDBOX_TIME_SCALE = "20"

DRAIN_SECONDS = 20
KEEP_ALIVE_SECONDS = 75
PATIENCE_SECONDS = 30
# What a tool needs that asks for exports and fetches their files.
CALLER = [Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ]
EVERYWHERE = [ALL_WORKSPACES]
OWNER = ClientSpec(name="first", scopes=(Scope.ADMIN,), grants=(GrantSpec(highest_priority=Priority.URGENT),))
BOTH_KINDS = list(Kind)

cli = typer.Typer(
    help="""A queue, a worker and an archive in front of Asana's export endpoints.

    `demo` shows all of it in a minute. `up` is the whole service on this machine. `api`, `worker` and
    `migrate` are its parts, for running it on many. Settings are environment variables named
    ASANA_EXPORTS_…; docs/configuration.md lists them.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
keys = typer.Typer(
    help="API keys, by which internal tools use the service; in the database itself.", no_args_is_help=True
)
cli.add_typer(keys, name="keys")
secrets = typer.Typer(help="The keys that encrypt Asana tokens in the database.", no_args_is_help=True)
cli.add_typer(secrets, name="secrets")
receipt = typer.Typer(help="Signed proof of what a file is and where it came from.", no_args_is_help=True)
cli.add_typer(receipt, name="receipt")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class Stop(Exception):
    """Nothing to be done until a person changes something; the message says what."""


EXPECTED = (
    Stop,
    StillServed,
    TracesMissing,
    PartFailed,
    DemoFailed,
    EmbeddedPostgresError,
    UnsupportedServer,
    VaultError,
    ProblemError,
)
T = TypeVar("T")


@cli.callback()
def root(
    attached: Annotated[
        bool,
        typer.Option(hidden=True, help="End when standard input closes, as it does with the parent process."),
    ] = False,
) -> None:
    if attached:
        end_with_parent()


@cli.command()
def up(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Talk to a stand-in Asana, started along.")
    ] = False,
    sandbox_port: Annotated[int, typer.Option(help="Where the stand-in listens; 0 for a free port.")] = 8500,
) -> None:
    """Run the whole service on this machine: database, API and worker, until Ctrl-C."""
    _run(_up(_settings(), sandbox_port if sandbox else None))


@cli.command()
def api() -> None:
    """Serve the HTTP API."""
    _run(_serve_api(_settings()))


@cli.command()
def worker() -> None:
    """Serve lanes: call Asana, follow jobs, archive files. Run as many as you like."""
    _run(_work(_settings()))


@cli.command()
def migrate() -> None:
    """Bring the database's schema to this version; safe to repeat, and for several at once."""
    settings = _settings()

    async def run() -> None:
        async with open_database(settings) as database:
            await migrate_database(database.engine)

    _run(run())
    err.print("The database has this version's schema.")


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Of the tool that will use the key, such as `bi`.")],
    scope: Annotated[list[Scope], typer.Option(help="What the key may be used for; repeat.")] = CALLER,
    workspace: Annotated[
        list[str], typer.Option(metavar="GID", help="A workspace it may export, * for all; repeat.")
    ] = EVERYWHERE,
    kind: Annotated[list[Kind], typer.Option(help="An export it may ask for; repeat.")] = BOTH_KINDS,
    highest_priority: Annotated[
        Priority, typer.Option(help="The most urgent it may ask for.")
    ] = Priority.HIGH,
    default_workspace: Annotated[
        str | None, typer.Option(metavar="GID", help="Of graph exports as at Asana, which name none.")
    ] = None,
) -> None:
    """Make an API key and print it. Only a hash of it is kept: it cannot be shown again."""
    settings = _settings()

    grants = [
        {"workspace": gid, "kinds": kind, "highest_priority": highest_priority} for gid in set(workspace)
    ]
    try:
        given = {"name": name, "scopes": scope, "grants": grants, "default_workspace": default_workspace}
        spec = ClientSpec.model_validate(given)
    except ValidationError as error:
        raise SystemExit(_faults("the key cannot be made", error)) from None

    async def run() -> str:
        async with _migrated_database(settings) as database, database.sessions.begin() as session:
            return (await create_client(session, spec, Cause("cli")))[1]

    out.print(_run(run()), soft_wrap=True)


@keys.command("list")
def list_keys() -> None:
    """Show whose keys there are, what they may do, and when they were last used."""
    settings = _settings()

    async def run() -> Sequence[Client]:
        async with _migrated_database(settings) as database, database.sessions() as session:
            return await all_clients(session)

    table = Table("name", "scopes", "workspaces", "last used", "", box=SIMPLE_HEAD)
    for client in _run(run()):
        used = client.last_used_at.strftime("%Y-%m-%d %H:%M") if client.last_used_at else "never"
        state = "revoked" if client.revoked_at else ""
        table.add_row(client.name, " ".join(client.scopes), " ".join(sorted(client.workspaces)), used, state)
    out.print(table)


@keys.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Refuse a key from now on. What was asked for with it goes on."""
    settings = _settings()

    async def run() -> None:
        async with _migrated_database(settings) as database, database.sessions.begin() as session:
            client = await client_by_name(session, name)
            if client is None:
                raise Stop(f"There is no client named {name!r}.")
            await revoke_client(session, client.id, Cause("cli"))

    _run(run())


@secrets.command("rotate")
def rotate_secrets() -> None:
    """Encrypt all tokens anew, by the first of the secret keys, while everything runs.

    A key kept in the data folder is replaced by a new one. Keys in the settings are yours to change: put the
    new one last and restart or let the file be read everywhere, then put it first, then rotate; after that
    the old ones may be taken out.
    """
    settings = _settings()

    async def run() -> int:
        async with _migrated_database(settings) as database:
            return await rotate_keys(database.sessions, settings, Cause("cli"))

    tokens = _run(run())
    out.print(f"{tokens} token{'' if tokens == 1 else 's'} encrypted anew, by the first key.")


@receipt.command("verify")
def verify_receipt(
    receipt_file: Annotated[Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False)],
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As it was downloaded.")],
    jwks: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The service's keys, saved before.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="The service itself, to ask for its keys.")] = None,
) -> None:
    """Check that a file is whole and came from the service, by its receipt; exit with 1 where it is not so.

    RECEIPT is what `/v1/exports/{id}/receipt` answers, the keys are those of `/.well-known/jwks.json`. With
    `--jwks` no network is needed.
    """
    keys = _signing_keys(jwks, url)
    try:
        kid, facts = read(receipt_file.read_text().strip(), keys)
    except (NotSigned, UnicodeDecodeError) as error:
        raise SystemExit(f"asana-exports: {receipt_file} is not signed by any of the keys: {error}") from None
    with file.open("rb") as opened:
        found = list(differences(facts, opened, only_type(facts["request"])))
    out.print(f"The receipt is signed by the key {kid}.", soft_wrap=True)
    for difference in found:
        out.print(f"[red]{file} is not the file of this receipt:[/red] {difference}.", soft_wrap=True)
    if found:
        raise SystemExit(1)
    out.print(
        f"{file} is the file of artifact {facts['artifact']}: {facts['lines']} lines, whole and unchanged.",
        soft_wrap=True,
    )


def _signing_keys(jwks: Path | None, url: str | None) -> Any:
    try:
        match jwks, url:
            case Path(), None:
                return json.loads(jwks.read_text())
            case None, str():
                answer = httpx.get(f"{url.rstrip('/')}/.well-known/jwks.json", timeout=PATIENCE_SECONDS)
                return answer.raise_for_status().json()
    except (ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise SystemExit(f"asana-exports: the keys cannot be read: {error}") from None
    raise SystemExit("asana-exports: name the keys, by either --jwks or --url")


@receipt.command("new-key")
def make_signing_key() -> None:
    """Sign receipts by a new key from now on; the old ones stay in the service's list of keys."""
    settings = _settings()

    async def run() -> str:
        async with _migrated_database(settings) as database, database.sessions.begin() as session:
            return (await new_signing_key(session, open_vault(settings))).id

    out.print(f"Receipts are signed by the key {_run(run())} from now on.", soft_wrap=True)


@cli.command()
def demo() -> None:
    """Run real exports end to end, against a sandbox Asana, and check what comes out."""
    _run(run_demo(_settings(log_level="warning").data_dir / "demo", out))


@cli.command()
def verify(
    files: Annotated[bool, typer.Option(help="Read every archived file, and compare it.")] = True,
) -> None:
    """Check by the event log and the files that every promise was kept; exits with 1 if not."""
    settings = _settings()

    async def run() -> list[Violation]:
        store = open_store(settings.files_url) if files else None
        async with _migrated_database(settings) as database, database.sessions() as session:
            return [
                violation
                async for violation in violations(session, store, webhook_days=settings.webhook_days)
            ]

    found = _run(run())
    for violation in found:
        out.print(f"[red]{violation.subject}[/red]: {violation.promise}: {violation.detail}", soft_wrap=True)
    if found:
        raise SystemExit(1)
    out.print("Every promise was kept.")


@cli.command()
def restored() -> None:
    """Make a database that was put back to an earlier moment fit to be served.

    Run it once after each restore, before any API process or worker is started. It sees to it that nothing is
    taken for what came after that moment, and lists the files of exports that this database does not know.
    They are kept.
    """
    settings = _settings()

    async def run() -> tuple[Restored, list[str]]:
        async with _migrated_database(settings) as database:
            async with database.sessions.begin() as session:
                found = await go_on(session, Cause("cli"))
            async with database.sessions() as session:
                keys = [entry.key async for entry in open_store(settings.files_url).files()]
                return found, await unknown(session, keys)

    found, files = _run(run())
    since = f"{found.as_of:%Y-%m-%d %H:%M:%S} UTC" if found.as_of else "its beginning"
    lines = [
        f"The database goes on from {since}.",
        f"Exports to be done, or done again: {found.unfinished}.",
        f"Files of exports that it does not know: {len(files)}.",
        *(f"  {key}" for key in files),
    ]
    out.print("\n".join(lines), soft_wrap=True)


@cli.command()
def openapi() -> None:
    """Print the description of the API, for generators of clients and other tools."""
    out.print_json(data=create_app().openapi())


cli.command("sandbox")(serve_sandbox)


async def _up(settings: Settings, sandbox_port: int | None) -> None:
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(_stop_signal())
        database = await stack.enter_async_context(open_database(settings))
        await migrate_database(database.engine)
        variables: dict[str, str] = {}
        if sandbox_port is not None:
            options = ("--port", str(sandbox_port), "--time-scale", SANDBOX_TIME_SCALE)
            stand_in = await stack.enter_async_context(running("sandbox", *options))
            variables = against(await stand_in.address())
        # The API ends first, then the worker, then the sandbox: nobody meets a closed door.
        parts = [
            await stack.enter_async_context(running("worker", variables=variables)),
            await stack.enter_async_context(running("api", variables=variables)),
        ]
        address = await parts[-1].address()
        _greet(address, await _first_key(database), sandbox=sandbox_port is not None)
        endings = [asyncio.create_task(part.failure()) for part in parts]
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopping, *endings], return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, *endings):
            task.cancel()
        if stopping not in done:
            raise next(task.result() for task in endings if task in done)
        err.print("Stopping.")


def _greet(address: str, key: str | None, *, sandbox: bool) -> None:
    out.print(f"\nThe service is up. Docs: [link]{address}/docs[/link]")
    if key:
        out.print(f"A first API key, shown this once: [bold]{key}[/bold]", soft_wrap=True)
    else:
        out.print(f"There are API keys already; `{sys.argv[0]} keys create NAME` makes another.")
    if sandbox:
        out.print("The sandbox Asana has the workspaces 1001 to 1005.")
        out.print(f"A token of its service account: [bold]{SERVICE_TOKEN}[/bold]")
    out.print("Ctrl-C stops it; what is queued stays queued.\n")


async def _first_key(database: Database) -> str | None:
    async with database.sessions.begin() as session:
        if await any_client(session):
            return None
        _, key = await create_client(session, OWNER, Cause("cli"))
        return key


async def _serve_api(settings: Settings) -> None:
    set_up_traces("api")
    with _stop_signal() as stop, listening(settings.host, settings.port) as listener:
        async with open_services(settings) as services:
            config = uvicorn.Config(
                create_app(services),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                # Longer than callers and proxies keep one idle: else some send on it as it is being closed.
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            # The socket listens already, so whoever reads the line may connect at once.
            out.print(f"api listening on http://{host}:{listener.getsockname()[1]}", soft_wrap=True)
            server = ApiServer(config)
            stopping = asyncio.create_task(server.stop_when(stop, services))
            await server.serve(sockets=[listener])
            stopping.cancel()


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=2048)
    # Connections inherit it. asyncio sets it for sockets of its own only, and without it every answer in two
    # pieces waits 40 ms for the acknowledgement of the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class ApiServer(uvicorn.Server):
    """Told to stop by an event: uvicorn itself would end the whole process by the signal it got."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def stop_when(self, stop: asyncio.Event, services: Services) -> None:
        await stop.wait()
        services.stopping.set()
        await services.clock.sleep(services.settings.drain_seconds)
        self.should_exit = True
        services.close()


async def _work(settings: Settings) -> None:
    set_up_traces("worker")
    with _stop_signal() as stop:
        patience = settings.database_timeout_seconds
        async with _migrated_database(settings, patience=patience) as database:
            with _told_to_prometheus(settings):
                await run_worker(settings, database, stop)


@contextmanager
def _told_to_prometheus(settings: Settings) -> Iterator[None]:
    """What this process counts, for as long as it works."""
    if settings.metrics_port is None:
        yield
        return
    try:
        server, _ = start_http_server(settings.metrics_port, settings.host)
    except OSError as error:
        raise Stop(f"METRICS_PORT {settings.metrics_port} cannot be listened on: {error.strerror}.") from None
    try:
        yield
    finally:
        server.shutdown()


@asynccontextmanager
async def _migrated_database(settings: Settings, *, patience: float | None = None) -> AsyncIterator[Database]:
    async with open_database(settings, patience=patience) as database:
        async with database.sessions() as session:
            if await is_behind(session):
                raise Stop("The database has an older version's schema. Run `asana-exports migrate`.")
        yield database


@contextmanager
def _stop_signal() -> Iterator[asyncio.Event]:
    """An event that is set by SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _settings(**given: Any) -> Settings:
    try:
        settings = Settings(**given)
    except ValidationError as error:
        faults = [
            f"  {'.'.join(map(str, each['loc'])) or 'settings'}: {each['msg']}" for each in error.errors()
        ]
        raise SystemExit("\n".join(["asana-exports: the settings have faults:", *faults])) from None
    set_up_logs(settings)
    return settings


def _faults(what: str, error: ValidationError) -> str:
    """Without the values, which may be secrets at the wrong place."""
    faults = [f"  {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return "\n".join([f"asana-exports: {what}:", *faults])


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Do it; what a person can mend is told without a traceback."""
    try:
        return asyncio.run(work)
    except EXPECTED as error:
        raise SystemExit(f"asana-exports: {error}") from None
    except OSError as error:
        raise SystemExit(f"asana-exports: {error.strerror or error}") from None
    except OperationalError as error:
        raise SystemExit(f"asana-exports: the database does not answer: {error.orig}") from None


if __name__ == "__main__":
    cli(prog_name="asana-exports")
