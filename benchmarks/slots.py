"""How well the slots at Asana are used: many exports of three workspaces, by three ways to get them.

Ours; scripts that each do what Asana's documentation says, trying again and polling every 30 seconds; and a
task queue (procrastinate) with a lock for each workspace, polling as often. The sandbox's clock runs five
times as fast, and so do all pauses.
"""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
from procrastinate import App, PsycopgConnector
from sqlalchemy import text

from app.conninfo import conninfo
from app.sandbox import SERVICE_TOKEN
from benchmarks.result import Result
from benchmarks.stand import Stand, a_stand
from tests.processes import until

SCALE = 5
ALL_SUCCEEDED = text("SELECT NULLIF(bool_and(status = 'succeeded'), false) FROM exports")
WORKSPACES = ("1001", "1002", "1003")
EXPORTS = 6
PAUSE = 30 / SCALE
SANDBOX = ("--time-scale", str(SCALE), "--run-seconds", "60", "120", "--seed", "7")
# The defaults, on the sandbox's clock.
SCALED = {
    "POLL_MIN_SECONDS": str(2 / SCALE),
    "POLL_MAX_SECONDS": str(60 / SCALE),
    "PROBE_MIN_SECONDS": str(30 / SCALE),
    "PROBE_MAX_SECONDS": str(300 / SCALE),
    "BACKOFF_MIN_SECONDS": str(5 / SCALE),
}


async def slots() -> list[Result]:
    ours = await measured(by_the_service)
    scripts = await measured(by_scripts)
    queue = await measured(by_a_task_queue)
    exports = f"{EXPORTS} exports of each of {len(WORKSPACES)} workspaces"
    return [
        result
        for name, (seconds, used) in (("scripts", scripts), ("procrastinate with a lock", queue))
        for result in (
            Result(f"{exports}, beside {name}", f"{ours[0]:.0f} s", f"{seconds:.0f} s", seconds / ours[0]),
            Result(
                "the share of that time in which a slot idled while work waited",
                f"{1 - ours[1]:.1%}",
                f"{1 - used:.1%}",
                (1 - used) / (1 - ours[1]),
            ),
        )
    ]


async def measured(way: Callable[[Stand], Awaitable[None]]) -> tuple[float, float]:
    """Seconds until all files are there, and the share of the time, from the first job of a workspace to the
    end of its last one, in which its slot was used."""
    async with a_stand(*SANDBOX) as stand:
        began = time.monotonic()
        await way(stand)
        seconds = time.monotonic() - began
        jobs = stand.sandbox.jobs()
    assert len(jobs) == EXPORTS * len(WORKSPACES)
    used, whole = 0.0, 0.0
    for workspace in WORKSPACES:
        times = [(job.created_at, job.ends_at) for job in jobs if job.workspace == workspace and job.ends_at]
        used += sum((end - begin).total_seconds() for begin, end in times)
        whole += (max(end for _, end in times) - min(begin for begin, _ in times)).total_seconds()
    return seconds, used / whole


async def by_the_service(stand: Stand) -> None:
    stand.start("worker", **SCALED)
    for _ in range(EXPORTS):
        for workspace in WORKSPACES:
            await stand.submit(workspace)

    async def done() -> bool | None:
        async with stand.database.sessions() as session:
            return await session.scalar(ALL_SUCCEEDED)

    await until(done, 600, lambda: "all exports")


async def by_scripts(stand: Stand) -> None:
    async with asana(stand) as http:
        await asyncio.gather(*(script(http, gid) for gid in WORKSPACES for _ in range(EXPORTS)))


async def script(http: httpx.AsyncClient, workspace: str) -> None:
    """What everybody writes."""
    asked = {"workspace": workspace, "export_request_parameters": [{"resource_type": "task"}]}
    while (started := await http.post("/exports/resource", json={"data": asked})).status_code != 201:
        await asyncio.sleep(PAUSE)
    gid = started.json()["data"]["gid"]
    while (job := (await http.get(f"/jobs/{gid}")).json()["data"])["status"] != "succeeded":
        await asyncio.sleep(PAUSE)
    async with httpx.AsyncClient(trust_env=False, timeout=60) as elsewhere:
        file = await elsewhere.get(job["new_resource_export"]["download_url"])
    gzip.decompress(file.content)


async def by_a_task_queue(stand: Stand) -> None:
    app = App(connector=PsycopgConnector(conninfo=conninfo(stand.server.url)))
    async with asana(stand) as http, app.open_async():

        @app.task(name="export", queue="exports")
        async def export(workspace: str) -> None:
            await script(http, workspace)

        for _ in range(EXPORTS):
            for workspace in WORKSPACES:
                await export.configure(lock=workspace).defer_async(workspace=workspace)
        await app.run_worker_async(
            queues=["exports"], concurrency=len(WORKSPACES), wait=False, install_signal_handlers=False
        )


@asynccontextmanager
async def asana(stand: Stand) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=stand.sandbox.api_url,
        headers={"Authorization": f"Bearer {SERVICE_TOKEN}"},
        trust_env=False,
        timeout=60,
    ) as http:
        yield http
