"""The process that serves lanes: beat, claim, listen, sweep, and hand over when told to stop."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import httpx
import psycopg
import structlog

from app.access.credentials import check_keys
from app.access.vault import open_vault
from app.artifacts.store import LocalStore
from app.asana.client import AsanaClient
from app.clock import Clock, SystemClock
from app.database.session import Database
from app.exports.runs import claim_archives, disown_archives
from app.ids import CredentialId, new_worker_id
from app.lanes.claim import HeldLane, claim_lanes, rescue_lanes
from app.lanes.lease import LaneLost, LeaseLost, beat, register_worker
from app.lanes.notifications import CREDENTIALS, LANES, listen
from app.lanes.release import disown, hand_over
from app.settings import Settings
from app.worker.archive import Archiving
from app.worker.context import UNAVAILABLE, Context, first_line
from app.worker.lane import serve
from app.worker.lease import Lease
from app.worker.sweep import sweep
from app.worker.upstream import Upstream

CLAIM_BATCH = 200
SWEEP_SECONDS = 60.0
DRAIN_SECONDS = 20.0

log = structlog.get_logger()


@asynccontextmanager
async def worker_context(settings: Settings, database: Database, clock: Clock) -> AsyncIterator[Context]:
    """The tools of a worker with a new name, closed at the end."""
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=20)
    async with (
        httpx.AsyncClient(timeout=settings.asana_timeout_seconds, limits=limits) as http,
        httpx.AsyncClient(timeout=settings.fetch_timeout_seconds) as downloads,
    ):
        asana = AsanaClient(http, settings.asana_url)
        yield Context(
            settings=settings,
            clock=clock,
            random=Random(),  # noqa: S311 - jitter, nothing secret
            sessions=database.sessions,
            upstream=Upstream(
                asana, database.sessions, open_vault(settings), clock, settings.asana_calls_per_minute
            ),
            downloads=downloads,
            store=LocalStore(settings.files_dir),
            lease=Lease(clock, new_worker_id(), settings.lease_seconds),
        )


async def run_worker(
    settings: Settings, database: Database, stop: asyncio.Event, clock: Clock | None = None
) -> None:
    """Serve lanes until told to stop. A worker that lost its lease starts anew under a new name.

    Raises `VaultError` when the keys are not those the tokens were encrypted with.
    """
    clock = clock or SystemClock()
    async with database.sessions() as session:
        await check_keys(session, open_vault(settings))
    while not stop.is_set():
        async with worker_context(settings, database, clock) as ctx:
            await WorkerProcess(ctx, database, stop).run()


class WorkerProcess:
    """One life of a worker: from registering a lease to handing over or losing it."""

    def __init__(self, ctx: Context, database: Database, stop: asyncio.Event) -> None:
        self._ctx = ctx
        self._database = database
        self._stop = stop
        self._wake = asyncio.Event()
        self._archiving = Archiving(ctx)
        self._lanes: dict[str, asyncio.Task[None]] = {}
        # Whether a claim may have been committed without our hearing of it.
        self._unsure = False

    async def run(self) -> None:
        """Work until told to stop, or until the lease is lost; in both cases nothing of it goes on."""
        worker, name = self._ctx.lease.worker, f"{socket.gethostname()}:{os.getpid()}"
        seconds = self._ctx.settings.lease_seconds
        sent_at = self._ctx.clock.monotonic()
        await self._ctx.write(register_worker, worker, name, seconds)
        self._ctx.lease.renewed(sent_at)
        log.info("worker.started", worker=worker, name=name)
        duties = [
            asyncio.create_task(duty, name=label)
            for label, duty in {
                "claim": self._claim_lanes(),
                "listen": self._listen(),
                "sweep": self._sweep(),
            }.items()
        ]
        stopping = asyncio.create_task(self._stopping(), name="stopping")
        beating = asyncio.create_task(self._beat())
        try:
            done, _ = await asyncio.wait({stopping, beating, *duties}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except LeaseLost:
            log.error("worker.lease_lost", worker=worker, lanes=len(self._lanes))
        finally:
            await self._leave([stopping, *duties], beating)

    async def _stopping(self) -> None:
        await self._stop.wait()

    async def _beat(self) -> None:
        """Renew the lease; ends by `LeaseLost` when that has not worked for as long as the lease lasts."""
        ctx, heartbeat = self._ctx, self._database.heartbeat
        while True:
            await ctx.clock.sleep(min(ctx.settings.beat_seconds, max(ctx.lease.remaining, 0)))
            sent_at = ctx.clock.monotonic()
            try:
                async with asyncio.timeout(max(ctx.lease.remaining, 0)), heartbeat.begin() as session:
                    await beat(session, ctx.lease.worker, ctx.settings.lease_seconds)
                ctx.lease.renewed(sent_at)
            except (*UNAVAILABLE, TimeoutError) as error:
                log.warning("worker.beat_failed", worker=ctx.lease.worker, error=first_line(error))
                if ctx.lease.remaining <= 0:
                    raise LeaseLost(ctx.lease.worker) from error
                await ctx.clock.sleep(min(0.5, ctx.lease.remaining))

    async def _claim_lanes(self) -> None:
        """Take free lanes whenever woken, and every now and then, should a notification have been lost."""
        ctx = self._ctx
        while True:
            # Cleared before looking: what is notified while we look wakes us again.
            self._wake.clear()
            try:
                full = await self._claim_once()
            except UNAVAILABLE as error:
                log.warning("worker.claim_failed", error=first_line(error))
                full, self._unsure = False, True
            if not full:
                pause = ctx.settings.idle_poll_seconds * ctx.random.uniform(0.5, 1.0)
                await self._woken_within(pause)

    async def _claim_once(self) -> bool:
        """One look for lanes and files to take; tells whether there may be more."""
        ctx = self._ctx
        room = min(CLAIM_BATCH, ctx.settings.max_lanes - len(self._lanes))
        async with ctx.sessions.begin() as session:
            if self._unsure:
                await disown(session, ctx.lease.worker, list(self._lanes))
                await disown_archives(session, ctx.lease.worker, self._archiving.runs)
            if rescued := await rescue_lanes(session):
                log.warning("lanes.rescued", lanes=rescued)
            lanes = await claim_lanes(session, ctx.lease.worker, room) if room > 0 else []
            archives = await claim_archives(session, ctx.lease.worker, self._archiving.free)
        self._unsure = False
        for lane in lanes:
            self._serve(lane)
        for archive in archives:
            log.info("archive.adopted", run=archive.run)
            self._archiving.start(archive)
        return len(lanes) == CLAIM_BATCH

    async def _woken_within(self, seconds: float) -> None:
        waking = asyncio.ensure_future(self._wake.wait())
        sleeping = asyncio.ensure_future(self._ctx.clock.sleep(seconds))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()

    def _serve(self, lane: HeldLane) -> None:
        task = asyncio.create_task(self._lane(lane), name=f"lane {lane.key}")
        self._lanes[lane.key] = task
        task.add_done_callback(lambda done: self._lane_ended(lane, done))

    def _lane_ended(self, lane: HeldLane, task: asyncio.Task[None]) -> None:
        if self._lanes.get(lane.key) is task:
            del self._lanes[lane.key]

    async def _lane(self, lane: HeldLane) -> None:
        """Serve one lane. A fault of our own code must neither stop the worker nor idle the lane for good."""
        tries = 0
        while True:
            try:
                return await serve(self._ctx, lane, self._archiving)
            except LaneLost:
                log.warning("lane.lost", lane=lane.key)
                return None
            except Exception:
                log.exception("lane.crashed", lane=lane.key, tries=tries)
            await self._ctx.clock.sleep(self._ctx.backoff(tries))
            tries += 1

    async def _listen(self) -> None:
        """Turn notifications into wake-ups; what is missed, the claim loop finds by itself."""
        while True:
            try:
                async for channel, payload in listen(self._database.listen_conninfo, LANES, CREDENTIALS):
                    if channel == CREDENTIALS:
                        self._ctx.upstream.forget(CredentialId(payload))
                    elif not channel:
                        self._ctx.upstream.forget_all()
                    self._wake.set()
            except psycopg.Error as error:
                log.warning("worker.listen_failed", error=str(error))
            await self._ctx.clock.sleep(self._ctx.settings.idle_poll_seconds)

    async def _sweep(self) -> None:
        while True:
            await self._ctx.clock.sleep(SWEEP_SECONDS * self._ctx.random.uniform(0.5, 1.0))
            try:
                await sweep(self._ctx)
            except UNAVAILABLE as error:
                log.warning("worker.sweep_failed", error=first_line(error))

    async def _leave(self, duties: list[asyncio.Task[None]], beating: asyncio.Task[None]) -> None:
        """Stop everything, then give the lanes away; the beat goes on until nothing is worked on any more."""
        ctx = self._ctx
        lanes = len(self._lanes)
        await _stopped({*duties, *self._lanes.values(), *self._archiving.tasks})
        await _stopped({beating})
        if ctx.lease.remaining > 0:
            try:
                async with asyncio.timeout(ctx.lease.remaining), ctx.sessions.begin() as session:
                    await hand_over(session, ctx.lease.worker)
            except (*UNAVAILABLE, TimeoutError) as error:
                log.warning("worker.hand_over_failed", error=first_line(error))
        log.info("worker.stopped", worker=ctx.lease.worker, lanes=lanes)


async def _stopped(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
