"""The processes that run until they are told to stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import uvicorn
from prometheus_client import start_http_server

from app.access.clients import ClientSpec, GrantSpec, any_client, create_client
from app.access.models import Priority, Scope
from app.api.services import Services, open_services
from app.cli.program import Stop, err, migrated_database, out
from app.database.migrate import migrate
from app.database.session import Database, open_database
from app.events.log import Cause
from app.local import against, running
from app.main import create_app
from app.sandbox import SERVICE_TOKEN
from app.settings import Settings
from app.traces import set_up_traces
from app.worker.process import run_worker

# Jobs of the sandbox take seconds instead of minutes, but not so few that there is nothing to watch.
SANDBOX_TIME_SCALE = "20"

DRAIN_SECONDS = 20
KEEP_ALIVE_SECONDS = 75
OWNER = ClientSpec(name="first", scopes=(Scope.ADMIN,), grants=(GrantSpec(highest_priority=Priority.URGENT),))


async def serve_all(settings: Settings, sandbox_port: int | None) -> None:
    """Database, API and worker, and a sandbox Asana where it has a port."""
    async with AsyncExitStack() as stack:
        stop = stack.enter_context(stop_signal())
        database = await stack.enter_async_context(open_database(settings))
        await migrate(database.engine)
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


async def serve_api(settings: Settings) -> None:
    """The HTTP API."""
    set_up_traces("api")
    with stop_signal() as stop, listening(settings.host, settings.port) as listener:
        async with open_services(settings) as services:
            config = uvicorn.Config(
                create_app(services),
                # The other parser refuses methods that it does not know by itself, not as a problem.
                http="h11",
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


async def work(settings: Settings) -> None:
    """One worker."""
    set_up_traces("worker")
    with stop_signal() as stop:
        patience = settings.database_timeout_seconds
        async with migrated_database(settings, patience=patience) as database:
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


@contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
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
