"""The process that serves lanes: beat, claim, listen, do chores, and hand over when told to stop."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random

import httpx
import psycopg
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.contextvars import bound_contextvars

from app.access.credentials import check_keys
from app.access.vault import open_vault
from app.artifacts.store import open_store
from app.asana.client import READS_AT_ONCE, STARTS_AT_ONCE, AsanaClient
from app.clock import Clock, SystemClock, woken_within
from app.database.session import Database
from app.exports.runs import HeldArchive, claim_archives, disown_archives, survived
from app.ids import CredentialId, WorkerId, new_worker_id
from app.lanes.claim import HeldLane, claim_lane, claim_lanes, overdue_lanes, rescue_lanes
from app.lanes.lease import LaneLost, LeaseLost, beat, register_worker
from app.lanes.notifications import CHANGES, CREDENTIALS, LANES, listen
from app.lanes.release import disown, hand_over
from app.metrics import LEASES_LOST
from app.settings import Settings
from app.webhooks.places import Places
from app.webhooks.targets import webhook_client
from app.worker import chores
from app.worker.archive import Archiving
from app.worker.backoff import Backoff
from app.worker.context import Context
from app.worker.convert import convert_all
from app.worker.crashes import report
from app.worker.deadlines import keep_deadlines
from app.worker.lane import serve
from app.worker.lease import Lease
from app.worker.refetch import refetch_all
from app.worker.transactions import UNAVAILABLE, Transactions, first_line
from app.worker.upstream import Upstream

CLAIM_BATCH = 200
OVERDUE_BATCH = 10
DEADLINE_SECONDS = 5.0
DRAIN_SECONDS = 20.0
# For what hangs on a database that is gone, and for chores, which others begin again.
CUT_SECONDS = 5.0

log = structlog.get_logger()


@asynccontextmanager
async def worker_context(settings: Settings, database: Database, clock: Clock) -> AsyncIterator[Context]:
    """The tools of a worker with a new name, closed at the end."""
    most = READS_AT_ONCE + STARTS_AT_ONCE
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    random = Random()  # noqa: S311 - jitter, nothing secret
    write = Transactions(database.sessions, clock, Backoff(0.1, 2.0, random), settings.lease_seconds)
    async with (
        httpx.AsyncClient(timeout=settings.asana_timeout_seconds, limits=limits) as http,
        httpx.AsyncClient(timeout=settings.fetch_timeout_seconds) as downloads,
        webhook_client(settings) as receivers,
    ):
        asana = AsanaClient(http, settings.asana_url)
        vault = open_vault(settings)
        yield Context(
            settings=settings,
            clock=clock,
            random=random,
            backoff=Backoff(settings.backoff_min_seconds, settings.backoff_max_seconds, random),
            until_probe=Backoff(settings.probe_min_seconds, settings.probe_max_seconds, random),
            write=write,
            upstream=Upstream(asana, write, vault, clock, settings.asana_calls_per_minute),
            downloads=downloads,
            store=open_store(settings.files_url),
            vault=vault,
            receivers=receivers,
            places=Places(),
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
    before: WorkerId | None = None
    while not stop.is_set():
        async with worker_context(settings, database, clock) as ctx:
            await WorkerProcess(ctx, database, stop, before).run()
            before = ctx.lease.worker
        # Where a lease was lost, connections may be dead without having said so.
        await database.reconnect()


class WorkerProcess:
    """One life of a worker: from registering a lease to handing over or losing it."""

    def __init__(
        self, ctx: Context, database: Database, stop: asyncio.Event, before: WorkerId | None = None
    ) -> None:
        self._ctx = ctx
        self._database = database
        self._stop = stop
        # The name of the life before, which was lost.
        self._before = before
        self._wake = asyncio.Event()
        self._archiving = Archiving(ctx)
        self._lanes: dict[asyncio.Task[None], HeldLane] = {}
        # Whether a claim may have been committed without our hearing of it.
        self._unsure = False

    async def run(self) -> None:
        """Work until told to stop, or until the lease is lost; in both cases nothing of it goes on."""
        stopping = asyncio.create_task(self._until_stop(), name="stopping")
        registering = asyncio.create_task(self._register(), name="register")
        await asyncio.wait({stopping, registering}, return_when=asyncio.FIRST_COMPLETED)
        if not registering.done():
            await _stopped({registering, stopping})
            return
        registering.result()
        beating = asyncio.create_task(self._beat(), name="beat")
        doing_chores = asyncio.create_task(self._do_chores(), name="chores")
        duties = [
            asyncio.create_task(self._watch_lease(), name="watch the lease"),
            asyncio.create_task(self._claim_lanes(), name="claim"),
            asyncio.create_task(self._listen(), name="listen"),
            asyncio.create_task(
                self._every(self._ctx.settings.idle_poll_seconds, convert_all), name="convert"
            ),
            asyncio.create_task(
                self._every(self._ctx.settings.idle_poll_seconds, refetch_all), name="refetch"
            ),
            asyncio.create_task(self._every(DEADLINE_SECONDS, keep_deadlines), name="deadlines"),
        ]
        try:
            done, _ = await asyncio.wait(
                {stopping, beating, doing_chores, *duties}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        except LeaseLost:
            LEASES_LOST.inc()
            log.error("worker.lease_lost", worker=self._ctx.lease.worker, lanes=len(self._lanes))
        finally:
            await self._leave([stopping, *duties], beating, doing_chores)

    async def _until_stop(self) -> None:
        await self._stop.wait()

    async def _register(self) -> None:
        ctx, name = self._ctx, f"{socket.gethostname()}:{os.getpid()}"

        async def enter(session: AsyncSession) -> float:
            sent_at = ctx.clock.monotonic()
            await register_worker(session, ctx.lease.worker, name, ctx.lease.seconds)
            if self._before:
                await survived(session, self._before)
            return sent_at

        ctx.lease.renewed(await ctx.write(enter))
        log.info("worker.started", worker=ctx.lease.worker, name=name)

    async def _beat(self) -> None:
        """Renew the lease; ends by `LeaseLost` when that has not worked for as long as the lease lasts."""
        ctx, vitals = self._ctx, self._database.vitals
        while True:
            await ctx.clock.sleep(min(ctx.settings.beat_seconds, max(ctx.lease.remaining, 0)))
            sent_at = ctx.clock.monotonic()
            try:
                async with asyncio.timeout(max(ctx.lease.remaining, 0)), vitals.begin() as session:
                    await beat(session, ctx.lease.worker, ctx.lease.seconds)
                ctx.lease.renewed(sent_at)
            except UNAVAILABLE as error:
                log.warning("worker.beat_failed", worker=ctx.lease.worker, error=first_line(error))
                if ctx.lease.remaining <= 0:
                    raise LeaseLost(ctx.lease.worker) from error
                await ctx.clock.sleep(min(0.5, ctx.lease.remaining))

    async def _watch_lease(self) -> None:
        """End by `LeaseLost` when the lease is over, whatever the beat may hang on."""
        ctx = self._ctx
        while (left := ctx.lease.remaining) > 0:
            await ctx.clock.sleep(left)
        raise LeaseLost(ctx.lease.worker)

    async def _do_chores(self) -> None:
        await chores.do_chores(self._ctx, self._database.listen_conninfo, chores.CHORES, chores.TASKS)

    async def _claim_lanes(self) -> None:
        """Take free lanes whenever woken, and every now and then, should a notification have been lost."""
        ctx = self._ctx
        while True:
            # Cleared before looking: what is notified while we look wakes us again.
            self._wake.clear()
            try:
                full = await self._claim_once()
                await self._claim_overdue()
            except Exception as error:
                report("claim", error)
                full, self._unsure = False, True
            if not full:
                pause = ctx.settings.idle_poll_seconds * ctx.random.uniform(0.5, 1.0)
                await woken_within(ctx.clock, self._wake, pause)

    async def _claim_once(self) -> bool:
        """One look for lanes and files to take; tells whether there may be more."""
        worker = self._ctx.lease.worker
        room = min(CLAIM_BATCH, self._room)
        async with asyncio.timeout(self._ctx.lease.seconds), self._database.sessions.begin() as session:
            if self._unsure:
                await disown(session, worker, list(self._lanes.values()))
                await disown_archives(session, worker, self._archiving.runs)
            if rescued := await rescue_lanes(session):
                log.warning("lanes.rescued", lanes=rescued)
            lanes = await claim_lanes(session, worker, room) if room > 0 else []
            archives = await self._claim_archives(session)
        self._unsure = False
        for lane in lanes:
            self._serve(lane)
        for archive in archives:
            log.info("archive.adopted", run=archive.run)
            self._archiving.start(archive)
        return len(lanes) == CLAIM_BATCH

    async def _claim_archives(self, session: AsyncSession) -> list[HeldArchive]:
        worker, free = self._ctx.lease.worker, self._archiving.free
        one_more = 0 if self._archiving.has_suspect else min(1, free)
        suspects = await claim_archives(session, worker, one_more, suspect=True)
        return suspects + await claim_archives(session, worker, free - len(suspects), suspect=False)

    async def _claim_overdue(self) -> None:
        """Take lanes that are passed over because somebody always has their lock."""
        async with self._database.sessions() as session:
            overdue = await overdue_lanes(session, min(OVERDUE_BATCH, self._room)) if self._room > 0 else ()
        for key in overdue:
            async with self._database.sessions.begin() as session:
                lane = await claim_lane(session, self._ctx.lease.worker, key)
            if lane:
                self._serve(lane)

    @property
    def _room(self) -> int:
        return self._ctx.settings.max_lanes - len(self._lanes)

    def _serve(self, lane: HeldLane) -> None:
        task = asyncio.create_task(self._lane(lane), name=f"lane {lane.key}")
        self._lanes[task] = lane
        task.add_done_callback(self._lanes.pop)

    async def _lane(self, lane: HeldLane) -> None:
        """Serve one lane. A fault of our own code must neither stop the worker nor idle the lane for good."""
        ctx, tries = self._ctx, 0
        while True:
            began = ctx.clock.monotonic()
            try:
                with bound_contextvars(worker=ctx.lease.worker, lane=lane.key):
                    return await serve(ctx, lane, self._archiving)
            except LaneLost:
                log.warning("lane.lost", lane=lane.key)
                # Should the database still count it as ours, nobody else would ever serve it.
                self._unsure = True
                return None
            except Exception as error:
                report("lane", error, lane=lane.key, tries=tries)
            pause = ctx.backoff(tries)
            tries = 0 if ctx.clock.monotonic() - began > pause else tries + 1
            await ctx.clock.sleep(pause)

    async def _listen(self) -> None:
        """Turn notifications into wake-ups; what is missed, the claim loop finds by itself."""
        while True:
            try:
                channels = LANES, CREDENTIALS, CHANGES
                async for channel, payload in listen(self._database.listen_conninfo, *channels):
                    if channel == CHANGES:
                        self._archiving.told(payload)
                        continue
                    if channel == CREDENTIALS:
                        self._ctx.upstream.forget(CredentialId(payload))
                    elif not channel:
                        self._ctx.upstream.forget_all()
                    self._wake.set()
            except psycopg.Error as error:
                log.warning("worker.listen_failed", error=str(error))
            await self._ctx.clock.sleep(self._ctx.settings.idle_poll_seconds)

    async def _every(self, seconds: float, duty: Callable[[Context], Awaitable[object]]) -> None:
        while True:
            await self._ctx.clock.sleep(seconds * self._ctx.random.uniform(0.5, 1.0))
            try:
                await duty(self._ctx)
            except Exception as error:
                report("duty", error, duty=duty.__name__)

    async def _leave(
        self,
        duties: Iterable[asyncio.Task[None]],
        beating: asyncio.Task[None],
        doing_chores: asyncio.Task[None],
    ) -> None:
        """Stop everything, then give the lanes away; the beat goes on until nothing is worked on any more."""
        ctx, lanes = self._ctx, len(self._lanes)
        doing_chores.cancel()
        await _stopped({*duties, *self._lanes, *self._archiving.tasks})
        await _stopped({beating}, CUT_SECONDS)
        if ctx.lease.remaining > 0:
            try:
                async with asyncio.timeout(ctx.lease.remaining), self._database.sessions.begin() as session:
                    await hand_over(session, ctx.lease.worker)
            except UNAVAILABLE as error:
                log.warning("worker.hand_over_failed", error=first_line(error))
        await asyncio.wait({doing_chores}, timeout=CUT_SECONDS)
        log.info("worker.stopped", worker=ctx.lease.worker, lanes=lanes)


async def _stopped(tasks: set[asyncio.Task[None]], within: float = DRAIN_SECONDS) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=within)
