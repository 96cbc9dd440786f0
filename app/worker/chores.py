"""Background tasks: what comes around by the clock, or was enqueued, and needs no lane.

They are procrastinate's, in the same database, which deals each to one of the workers. What a worker was at
when it was killed is begun again, so each has to be safe to be done twice, also at once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import DeleteJobCondition, Job, Status
from procrastinate.retry import BaseRetryStrategy, RetryDecision
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from app.clock import Clock
from app.database.chores import tally
from app.database.connection import Connection
from app.events.outgoing import DELIVER_WEBHOOKS
from app.worker.backoff import Backoff
from app.worker.context import Context
from app.worker.crashes import report
from app.worker.deadlines import watch_deadlines
from app.worker.forget import forget_events
from app.worker.garbage import collect_garbage
from app.worker.retention import keep_retention
from app.worker.schedules import tick_schedules
from app.worker.sweep import sweep
from app.worker.transactions import first_line
from app.worker.webhooks import deliver_overdue, deliver_webhooks, forget_deliveries

CHORES_AT_ONCE = 10
# More than one client can have under way by all its endpoints.
TASKS_AT_ONCE = 100
CONNECTIONS = 4
# What is under way when a worker is told to stop may end within these.
GRACE_SECONDS = 3.0
BEAT_SECONDS = 5.0
# Silent for as long, a worker is taken for dead, and what it was at is begun again.
DEAD_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 600.0
# At once by whatever clock.
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
# procrastinate goes by the clock on the wall, and would wait until it is again as late as it was.
CLOCK_LOOK_SECONDS, CLOCK_STEP = 10.0, timedelta(seconds=5)

log = structlog.get_logger()


@dataclass(frozen=True)
class Chore:
    """What comes around; `cron` is in UTC and may have a sixth field, of seconds.

    One that fails is logged and counted, and comes around again. A long one may take longer than until it
    does: then it waits for the round that is under way, also with another worker. Of others a round that has
    died with its worker must not hold up the next.
    """

    name: str
    cron: str
    work: Callable[[Context], Awaitable[object]]
    is_long: bool = False


@dataclass(frozen=True)
class Task:
    """What is enqueued with arguments, by procrastinate_defer_jobs_v1 in the transaction that wants it done.

    Its jobs are in a queue of its name, so that workers of a version that does not know it leave them alone.
    One that fails is tried again for ever, after pauses that grow.
    """

    name: str
    work: Callable[..., Awaitable[object]]


# One that is taken away takes its row of `chores` along, by a migration: else it counts as standing still.
CHORES: tuple[Chore, ...] = (
    Chore("tick_schedules", "* * * * * */5", tick_schedules),
    Chore("watch_deadlines", "* * * * * */15", watch_deadlines),
    Chore("sweep", "* * * * *", sweep),
    Chore("keep_retention", "* * * * *", keep_retention),
    Chore("collect_garbage", "7 * * * *", collect_garbage, is_long=True),
    Chore("forget_events", "37 * * * *", forget_events),
    Chore("deliver_overdue", "* * * * *", deliver_overdue),
    Chore("forget_deliveries", "23 * * * *", forget_deliveries),
)
TASKS: tuple[Task, ...] = (Task(DELIVER_WEBHOOKS, deliver_webhooks),)


async def do_chores(
    ctx: Context, conninfo: str, chores: Sequence[Chore] = (), tasks: Sequence[Task] = ()
) -> None:
    """Do one's share for as long as the worker lives, over connections of one's own to that database."""
    while True:
        connector = _connector(conninfo, ctx.lease.seconds / 2)
        try:
            async with App(connector=connector).open_async() as app:
                _declare(app, ctx, chores, tasks, await _skew(connector))
                names = [task.name for task in tasks]
                await _until_one_ends(
                    _work(app, ctx, [name for name in app.tasks if name not in names], CHORES_AT_ONCE),
                    *([_work(app, ctx, names, TASKS_AT_ONCE)] if names else []),
                    _until_the_clock_is_set(ctx.clock),
                )
        except Exception as error:
            report("chore", error)
        await ctx.clock.sleep(ctx.backoff(0))


async def _work(app: App, ctx: Context, queues: list[str], at_once: int) -> None:
    await app.run_worker_async(
        name=ctx.lease.worker,
        queues=queues,
        concurrency=at_once,
        fetch_job_polling_interval=ctx.settings.idle_poll_seconds,
        shutdown_graceful_timeout=GRACE_SECONDS,
        delete_jobs=DeleteJobCondition.ALWAYS.value,
        install_signal_handlers=False,
        update_heartbeat_interval=BEAT_SECONDS,
        stalled_worker_timeout=DEAD_SECONDS,
    )


async def _until_the_clock_is_set(clock: Clock) -> None:
    began = clock.now() - timedelta(seconds=clock.monotonic())
    while abs(clock.now() - timedelta(seconds=clock.monotonic()) - began) < CLOCK_STEP:
        await clock.sleep(CLOCK_LOOK_SECONDS)
    log.warning("chores.clock_was_set")


async def _until_one_ends(*work: Coroutine[Any, Any, None]) -> None:
    """Then the others end as well; raises what it ended by."""
    doing = {asyncio.create_task(each) for each in work}
    try:
        done, _ = await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in doing:
            task.cancel()
        await asyncio.wait(doing)
    for task in done:
        task.result()


def _connector(conninfo: str, patience: float) -> PsycopgConnector:
    async def be_patient(connection: AsyncConnection) -> None:
        cast("Connection", connection).patience = patience

    def pool(**options: Any) -> AsyncConnectionPool:
        return AsyncConnectionPool(configure=be_patient, **options)

    return PsycopgConnector(
        # Its connection for LISTEN is none of the pool's, and may be silent for as long as it likes.
        pool_factory=pool,
        conninfo=conninfo,
        kwargs={"application_name": "asana-exports chores"},
        connection_class=Connection,
        min_size=1,
        max_size=CONNECTIONS,
        timeout=patience,
    )


async def _skew(connector: PsycopgConnector) -> timedelta:
    """How far the database's clock, which decides, is ahead of the one that jobs are put off by."""
    found: dict[str, Any] = await connector.execute_query_one_async("SELECT clock_timestamp() AS now")
    skew: timedelta = found["now"] - datetime.now(UTC)
    return skew


def _declare(app: App, ctx: Context, chores: Sequence[Chore], tasks: Sequence[Task], skew: timedelta) -> None:
    begin_again = Chore("begin_again", "* * * * * */30", partial(_begin_again, app))
    for chore in (begin_again, *chores):
        # One that waits already is enough.
        declare = app.task(
            name=chore.name,
            queue=chore.name,
            queueing_lock=chore.name,
            lock=chore.name if chore.is_long else None,
        )
        app.periodic(cron=chore.cron)(declare(partial(_do, ctx, chore, asyncio.Lock())))
    retry = _Again(Backoff(1.0, LONGEST_PAUSE_SECONDS, ctx.random), skew)
    for task in tasks:
        app.task(name=task.name, queue=task.name, retry=retry)(partial(_do_task, ctx, task))


async def _do_task(ctx: Context, task: Task, **what: Any) -> None:
    try:
        await task.work(ctx, **what)
    except Exception as error:
        report("task", error, task=task.name, **what)
        raise


async def _do(ctx: Context, chore: Chore, under_way: asyncio.Lock, *, timestamp: int) -> None:
    """`timestamp` is when it came around; a round that is still under way then is not joined by another."""
    if under_way.locked():
        return
    async with under_way:
        await _do_now(ctx, chore)


async def _do_now(ctx: Context, chore: Chore) -> None:
    began, trouble = ctx.clock.monotonic(), None
    try:
        await chore.work(ctx)
    except Exception as error:
        trouble = first_line(error)
        report("chore", error, chore=chore.name)
    await ctx.write(tally, chore.name, ctx.clock.monotonic() - began, trouble)


async def _begin_again(app: App, _: Context) -> None:
    """Put back what is in the hands of workers that are dead."""
    jobs = app.job_manager
    for job in await jobs.get_stalled_jobs(seconds_since_heartbeat=DEAD_SECONDS):
        log.warning("chores.begun_again", task=job.task_name, worker=job.worker_id)
        try:
            await jobs.retry_job(job, retry_at=LONG_AGO)
        except UniqueViolation:
            # The same waits already.
            await jobs.finish_job(job, Status.FAILED, delete_job=True)


class _Again(BaseRetryStrategy):
    """When a task is done again."""

    def __init__(self, backoff: Backoff, skew: timedelta) -> None:
        self._backoff = backoff
        self._skew = skew

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision:
        was_stopped = isinstance(exception, asyncio.CancelledError)
        seconds = 0.0 if was_stopped else self._backoff(job.attempts)
        return RetryDecision(retry_at=datetime.now(UTC) + self._skew + timedelta(seconds=seconds))
