"""What many lanes cost a worker, and what its end costs those who wait."""

import asyncio
import signal
import time

import psutil
from sqlalchemy import text

from app.exports.models import Phase, Run
from benchmarks.crowds import fill
from benchmarks.result import Result
from benchmarks.stand import Stand, a_stand
from tests.processes import Process, until

LANES = 10_000
WATCHED_SECONDS = 60
TARGET_MEMORY_MB = 500
TARGET_KILLED, TARGET_TOLD = 15.0, 1.0
FOR_EVER = ("--run-seconds", "8640000", "8640000")

POLLING = text("SELECT NULLIF(count(*) >= :lanes, false) FROM runs WHERE phase = 'polling'")


async def polling() -> list[Result]:
    """A worker with ten thousand lanes, each with a job at Asana that goes on for ever, looked at each minute
    as those are that have taken twenty."""
    async with a_stand("--time-scale", "1", *FOR_EVER) as stand:
        await fill(stand, LANES, LANES, "polled")
        for number in range(1, LANES + 1):
            stand.sandbox.put_workspace(str(100_000 + number), tasks=1)
        worker = stand.start("worker", MAX_LANES=str(2 * LANES), POLL_MIN_SECONDS="60")

        async def all_polling() -> bool | None:
            async with stand.database.sessions() as session:
                return await session.scalar(POLLING, {"lanes": LANES})

        await until(all_polling, 300, lambda: f"{LANES} jobs in progress")
        # The pauses of all of them have begun.
        await asyncio.sleep(60)
        process = psutil.Process(worker.pid)
        before, looked = process.cpu_times(), stand.sandbox.stats().calls["job"]
        await asyncio.sleep(WATCHED_SECONDS)
        after, memory = process.cpu_times(), worker.most_memory() / 10**6
        looks = (stand.sandbox.stats().calls["job"] - looked) / WATCHED_SECONDS
    used = (after.user + after.system - before.user - before.system) / WATCHED_SECONDS
    return [
        Result(
            f"memory of a worker with {LANES:,} jobs in progress, at its most",
            f"{memory:.0f} MB",
            f"target {TARGET_MEMORY_MB} MB",
            TARGET_MEMORY_MB / memory,
        ),
        Result(
            f"its share of one core, at {looks:.0f} looks at Asana in a second",
            f"{used:.0%}",
            "one core",
            1 / used,
        ),
    ]


async def failover() -> list[Result]:
    """From the end of a worker until another one looks at the job that it followed."""
    async with a_stand("--time-scale", "1", *FOR_EVER) as stand:
        export = await stand.submit("1001")
        first = stand.start("worker")

        async def in_progress() -> Run | None:
            async with stand.database.sessions() as session:
                run = await session.get_one(Run, export.run)
            return run if run.phase is Phase.POLLING else None

        await until(in_progress, 60, lambda: "a job in progress")
        second = stand.start("worker")
        await second.said("worker.started")
        killed = await followed_after(stand, first, signal.SIGKILL)
        third = stand.start("worker")
        await third.said("worker.started")
        told = await followed_after(stand, second, signal.SIGTERM)
    return [
        Result(
            "a worker is killed: until its job is followed by another",
            f"{killed:.1f} s",
            f"target {TARGET_KILLED:.0f} s",
            TARGET_KILLED / killed,
        ),
        Result(
            "a worker is told to stop: the same",
            f"{told:.2f} s",
            f"target {TARGET_TOLD:.0f} s",
            TARGET_TOLD / told,
        ),
    ]


async def followed_after(stand: Stand, worker: Process, how: signal.Signals) -> float:
    """Seconds until the lane of the worker has another holder."""
    async with stand.database.sessions() as session:
        before = (await session.execute(HOLDER)).scalar_one()
    began = time.monotonic()
    worker.signal(how)

    async def held_by_another() -> str | None:
        async with stand.database.sessions() as session:
            holder = (await session.execute(HOLDER)).scalar_one()
        return holder if holder not in {None, before} else None

    await until(held_by_another, 60, lambda: "another holder")
    return time.monotonic() - began


HOLDER = text("SELECT holder FROM lanes WHERE key = '1001'")
