"""The main job end to end, as a user would do it: a service of its own, real exports, checked files."""

import asyncio
import gzip
import hashlib
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

import httpx
import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from app.access.clients import ClientSpec, create_client
from app.access.models import Scope
from app.database.migrate import migrate
from app.database.session import open_database
from app.events.log import Cause
from app.local import against, running
from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl
from app.settings import ENV_PREFIX, Settings

SANDBOX = ("--port", "0", "--time-scale", "2", "--run-seconds", "3", "6", "--seed", "7")
# In a hurry, for jobs that take seconds.
HASTE = {
    "POLL_MIN_SECONDS": "0.2",
    "POLL_MAX_SECONDS": "1",
    "PROBE_MIN_SECONDS": "1",
    "PROBE_MAX_SECONDS": "2",
}
MOST_SECONDS = 120
OUTSIDER_STAYS_SECONDS = 4
FINAL = {"succeeded", "failed", "canceled"}

Json = dict[str, Any]


class DemoFailed(Exception):
    """Something did not come out as promised; the message says what."""


@dataclass
class Wanted:
    """An export of the demonstration: what is asked, and what was seen of it."""

    title: str
    kind: str
    body: Json
    shown: Json = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)

    @property
    def workspace(self) -> str:
        return str(self.body["workspace"])

    def see(self, export: Json) -> bool:
        """Take note of its present state; tells whether that differs from the last one in what people see."""
        changed = _state(export) != _state(self.shown) if self.shown else True
        self.shown = export
        if (reason := export["wait_reason"]) and reason not in self.reasons:
            self.reasons.append(reason)
        return changed


def _exports() -> list[Wanted]:
    tasks = {"resource_type": "task"}
    return [
        Wanted("all tasks", "resource", {"workspace": "1001", "export_request_parameters": [tasks]}),
        Wanted(
            "teams and messages",
            "resource",
            {
                "workspace": "1001",
                "export_request_parameters": [{"resource_type": "team"}, {"resource_type": "message"}],
            },
        ),
        Wanted("a project", "graph", {"workspace": "1001", "parent": "10012001"}),
        Wanted("all tasks", "resource", {"workspace": "1002", "export_request_parameters": [tasks]}),
    ]


async def run_demo(folder: Path, console: Console) -> None:
    """Show the main job. What is archived stays in `folder`. Raises `DemoFailed` or `PartFailed`."""
    began = time.monotonic()
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    (folder / "logs").mkdir(parents=True)
    async with _service(folder) as (http, sandbox):
        console.print(f"PostgreSQL, API, worker and a sandbox Asana run ({time.monotonic() - began:.1f} s).")
        console.print(f"API: {http.base_url}  Sandbox Asana: {sandbox.api_url}\n")
        await _register(http, console)
        sandbox.hold_slot("1002")
        console.print("Somebody outside holds the export slot of workspace 1002.\n")
        exports = _exports()
        for wanted in exports:
            wanted.see(await _post(http, f"/v1/exports/{wanted.kind}", wanted.body))
            console.print(f"Asked for: {wanted.workspace} {wanted.title}, {_state(wanted.shown)}")
        console.print()
        await _follow(http, sandbox, exports, console)
        _check_turns(sandbox, exports)
        checked = [await _read_back(http, wanted) for wanted in exports]
    _print_results(console, exports, checked)
    console.print(f"\nEverything came out as promised, in {time.monotonic() - began:.1f} s.")


@asynccontextmanager
async def _service(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, SandboxControl]]:
    """All parts as processes, on a database that goes with the demonstration, and a client with a key."""
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(TemporaryDirectory(prefix="asana-exports-demo-")))
        # PostgreSQL refuses to run as root, and the account it runs as instead has to pass through.
        data.chmod(0o711)
        own = {
            "DATA_DIR": str(data), "STORE_URL": (folder / "files").resolve().as_uri(),
            "DATABASE_URL": "", "LISTEN_DATABASE_URL": "", "SECRET_KEYS": "",
            "HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "json", **HASTE,
        }  # fmt: skip
        key = await stack.enter_async_context(_database(data))
        logs = folder / "logs"
        stand_in = await stack.enter_async_context(running("sandbox", *SANDBOX, log=logs / "sandbox.log"))
        asana_url = await stand_in.address()
        variables = {ENV_PREFIX + name: value for name, value in own.items()} | against(asana_url)
        await stack.enter_async_context(running("worker", variables=variables, log=logs / "worker.log"))
        api = await stack.enter_async_context(running("api", variables=variables, log=logs / "api.log"))
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=await api.address(),
                headers={"Authorization": f"Bearer {key}"},
                trust_env=False,
                timeout=30,
            )
        )
        sandbox = stack.enter_context(SandboxControl(asana_url))
        await _until_ready(http)
        yield http, sandbox


@asynccontextmanager
async def _database(data: Path) -> AsyncIterator[str]:
    """A database of its own with one client; yields that one's API key."""
    settings = Settings(data_dir=data, database_url=None)
    async with open_database(settings) as database:
        await migrate(database.engine)
        async with database.sessions.begin() as session:
            _, key = await create_client(
                session, ClientSpec(name="demo", scopes=(Scope.ADMIN,)), Cause("demo")
            )
        yield key


async def _until_ready(http: httpx.AsyncClient) -> None:
    try:
        async with asyncio.timeout(30):
            while (await http.get("/readyz")).status_code != httpx.codes.OK:
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise DemoFailed("The service was not ready within 30 s; see the logs of its parts.") from None


async def _register(http: httpx.AsyncClient, console: Console) -> None:
    credential = await _post(http, "/v1/credentials", {"name": "service account", "token": SERVICE_TOKEN})
    console.print(f"Token stored, encrypted. Asana says it is {credential['asana_user_name']!r}.")
    for gid in ("1001", "1002"):
        workspace = _body(await http.put(f"/v1/workspaces/{gid}", json={"credential": credential["id"]}))
        console.print(f"Workspace {gid} registered: {workspace['name']!r}.")


async def _post(http: httpx.AsyncClient, path: str, body: Json) -> Json:
    return _body(await http.post(path, json=body))


def _body(response: httpx.Response) -> Json:
    if not response.is_success:
        raise DemoFailed(f"{response.request.method} {response.request.url} gave {response.text}")
    body: Json = response.json()
    return body


async def _follow(
    http: httpx.AsyncClient, sandbox: SandboxControl, exports: list[Wanted], console: Console
) -> None:
    """Watch until all have ended; the outsider goes once it was seen that it is waited for."""
    began = time.monotonic()
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while any(wanted.shown["status"] not in FINAL for wanted in exports):
            waited = time.monotonic() - began
            if waited > MOST_SECONDS:
                raise DemoFailed(f"Not all exports had ended after {MOST_SECONDS} s.")
            if waited > OUTSIDER_STAYS_SECONDS and "upstream_slot_busy" in exports[-1].reasons:
                sandbox.release_slot("1002")
            for wanted in exports:
                export = _body(await http.get(f"/v1/exports/{wanted.shown['id']}"))
                if wanted.see(export) and live is None:
                    console.print(f"{waited:5.1f} s  {wanted.workspace}  {wanted.title:<19} {_state(export)}")
            if live:
                live.update(_progress(exports, waited), refresh=True)
            await asyncio.sleep(0.2)


def _progress(exports: list[Wanted], waited: float) -> Table:
    table = Table("workspace", "export", f"state after {waited:.1f} s", box=SIMPLE_HEAD)
    for wanted in exports:
        table.add_row(wanted.workspace, f"{wanted.kind}: {wanted.title}", _state(wanted.shown))
    return table


def _state(export: Json) -> str:
    """What people want to know of it, in a few words."""
    words = [export["status"]]
    if export["queue"] and export["queue"]["ahead"]:
        words.append(f"{export['queue']['ahead']} ahead")
    words += [word for word in (export["wait_reason"], export["run"]["phase"]) if word]
    return " · ".join(words)


def _check_turns(sandbox: SandboxControl, exports: list[Wanted]) -> None:
    for wanted in exports:
        if wanted.shown["status"] != "succeeded":
            raise DemoFailed(f"Export {wanted.title!r} has {wanted.shown['status']}: {wanted.shown['error']}")
    if "behind_others" not in exports[1].reasons:
        raise DemoFailed("The second export of workspace 1001 did not wait for the first.")
    most = sandbox.stats().workspaces["1001"].max_in_progress
    if most != 1:
        raise DemoFailed(f"Asana saw {most} exports of workspace 1001 at the same time.")


async def _read_back(http: httpx.AsyncClient, wanted: Wanted) -> Counter[str]:
    """Download the file and read the archived one, and hold both against what the export says of it."""
    artifact = wanted.shown["artifact"]
    response = await http.get(artifact["url"])
    if not response.is_success:
        raise DemoFailed(f"The download of {wanted.title!r} gave {response.text}")
    archived = Path(url2pathname(urlparse(artifact["location"]).path)).read_bytes()
    for name, content in {"downloaded": response.content, "archived": archived}.items():
        found = hashlib.sha256(content).hexdigest()
        if (found, len(content)) != (artifact["sha256"], artifact["bytes"]):
            raise DemoFailed(f"The {name} file of {wanted.title!r} is not the one that was verified: {found}")
    lines = Counter(orjson.loads(line)["resource_type"] for line in gzip.decompress(archived).splitlines())
    if lines != artifact["by_type"]:
        raise DemoFailed(f"{wanted.title!r} holds {dict(lines)}, not {artifact['by_type']}")
    return lines


def _print_results(console: Console, exports: list[Wanted], checked: list[Counter[str]]) -> None:
    table = Table("export", "status", "waited", "took", "bytes", "lines by type", box=SIMPLE_HEAD)
    for wanted, lines in zip(exports, checked, strict=True):
        created, started, finished = (
            datetime.fromisoformat(wanted.shown[name]) for name in ("created_at", "started_at", "finished_at")
        )
        table.add_row(
            f"{wanted.workspace} {wanted.title}",
            wanted.shown["status"],
            f"{(started - created).total_seconds():.1f} s",
            f"{(finished - started).total_seconds():.1f} s",
            f"{wanted.shown['artifact']['bytes']:,}",
            ", ".join(f"{number} {kind}" for kind, number in sorted(lines.items())),
        )
    console.print()
    console.print(table)
    console.print("Each file was downloaded, and read where it is kept; both are what was verified:")
    for wanted in exports:
        artifact = wanted.shown["artifact"]
        console.print(f"  sha256 {artifact['sha256']}\n  {artifact['location']}", soft_wrap=True)
