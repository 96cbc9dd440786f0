"""Background tasks: each is done by one worker, and again where it was not done to its end."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database.chores import ChoreTally, waiting_jobs
from app.database.jobs import defer
from app.database.session import Database
from app.worker.chores import Chore, Task, do_chores
from app.worker.context import Context
from tests.processes import until
from tests.worker.conftest import crashes

Sessions = async_sessionmaker[AsyncSession]

EACH_SECOND = "* * * * * *"
ENQUEUE = text("""
    SELECT procrastinate_defer_jobs_v1(
        ARRAY[ROW('told', 'told', 0, NULL, NULL, CAST(:args AS jsonb), NULL)::procrastinate_job_to_defer_v1])
""")
JOBS = text("SELECT status::text FROM procrastinate_jobs WHERE task_name = 'told'")
IN_DEAD_HANDS = text("UPDATE procrastinate_jobs SET status = 'doing' WHERE task_name = 'told'")
PUT_OFF_BY = text(
    "SELECT extract(epoch FROM scheduled_at - now()) FROM procrastinate_jobs WHERE task_name = 'told'"
)
CUT_OFF = text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name = 'asana-exports chores' AND datname = current_database()
""")


@asynccontextmanager
async def doing(
    ctx: Context, database: Database, chores: Sequence[Chore] = (), tasks: Sequence[Task] = ()
) -> AsyncIterator[None]:
    working = asyncio.create_task(do_chores(ctx, database.listen_conninfo, chores, tasks))
    try:
        yield
        assert not working.done()
    finally:
        working.cancel()
        await asyncio.wait({working})


async def enqueue(sessions: Sessions, **args: object) -> None:
    async with sessions.begin() as session:
        await session.execute(ENQUEUE, {"args": json.dumps(args)})


class Called:
    """What was done, with its arguments; fails as often as told."""

    def __init__(self, *faults: Exception) -> None:
        self.with_args: list[dict[str, object]] = []
        self._faults = list(faults)

    async def __call__(self, _: Context, **args: object) -> None:
        self.with_args.append(args)
        if self._faults:
            raise self._faults.pop(0)

    async def times(self, number: int) -> None:
        async def enough() -> bool | None:
            return len(self.with_args) >= number or None

        await until(enough, 20, lambda: f"{number} calls, there were {len(self.with_args)}")


async def test_a_chore_comes_around_to_one_worker_at_a_time(
    ctx: Context, database: Database, sessions: Sessions
) -> None:
    called, began = Called(), ctx.clock.monotonic()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(doing(ctx, database, [Chore("sweep", EACH_SECOND, called)]))
        await called.times(3)
    assert len(called.with_args) <= ctx.clock.monotonic() - began + 2
    async with sessions() as session:
        tally = await session.get_one(ChoreTally, "sweep")
    assert (tally.succeeded, tally.failed, tally.last_failed_at) == (len(called.with_args), 0, None)
    assert tally.last_succeeded_at is not None


async def test_a_long_round_is_joined_by_nobody(ctx: Context, database: Database, sessions: Sessions) -> None:
    rounds, over, short = 0, asyncio.Event(), Called()

    async def look_everywhere(_: Context) -> None:
        nonlocal rounds
        rounds += 1
        await over.wait()

    chores = [
        Chore("collect_garbage", EACH_SECOND, look_everywhere, is_long=True),
        Chore("sweep", EACH_SECOND, short),
    ]
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(doing(ctx, database, chores))

        async def next_waits() -> bool | None:
            async with sessions() as session:
                waiting = {job.task for job in await waiting_jobs(session)}
            return (rounds > 0 and "collect_garbage" in waiting) or None

        await until(next_waits, 20, lambda: "the next round, due and waiting")
        await short.times(len(short.with_args) + 3)
        assert rounds == 1
        over.set()

        async def goes_on() -> bool | None:
            return rounds > 1 or None

        await until(goes_on, 20, lambda: "the next round")


async def test_a_chore_that_fails_is_counted_and_comes_around_again(
    ctx: Context, database: Database, sessions: Sessions
) -> None:
    crashed = crashes("chore")
    called = Called(TimeoutError("no answer"), ZeroDivisionError("our own fault"))
    async with doing(ctx, database, [Chore("sweep", EACH_SECOND, called)]):
        await called.times(4)
    async with sessions() as session:
        tally = await session.get_one(ChoreTally, "sweep")
    assert (tally.failed, tally.last_error) == (2, "ZeroDivisionError: our own fault")
    assert tally.succeeded >= 1
    assert crashes("chore") == crashed + 1


async def test_a_task_is_done_once_its_transaction_is_committed(
    ctx: Context, database: Database, sessions: Sessions
) -> None:
    called = Called()
    async with doing(ctx, database, tasks=[Task("told", called)]):
        async with sessions() as session:
            await session.execute(ENQUEUE, {"args": '{"number": 1}'})
            await session.rollback()
        await enqueue(sessions, number=2)
        await called.times(1)
    assert called.with_args == [{"number": 2}]
    async with sessions() as session:
        assert (await session.scalars(JOBS)).all() == []


async def test_a_task_that_fails_is_done_again(ctx: Context, database: Database, sessions: Sessions) -> None:
    crashed = crashes("task")
    called = Called(ZeroDivisionError(), TimeoutError("no answer"))
    async with doing(ctx, database, tasks=[Task("told", called)]):
        await enqueue(sessions, number=1)
        await called.times(3)
    assert called.with_args == [{"number": 1}] * 3
    assert crashes("task") == crashed + 1


async def test_a_task_is_not_done_before_its_time(
    ctx: Context, database: Database, sessions: Sessions
) -> None:
    called = Called()
    async with sessions.begin() as session:
        await defer(session, "told", at=datetime.now(UTC) + timedelta(hours=1), number=1)
    async with doing(ctx, database, tasks=[Task("told", called)]):
        await enqueue(sessions, number=2)
        await called.times(1)
        async with sessions() as session:
            assert 3500 < float(await session.scalar(PUT_OFF_BY) or 0) <= 3601
            assert "told" not in {job.task for job in await waiting_jobs(session)}
    assert called.with_args == [{"number": 2}]


async def test_what_a_dead_worker_was_at_is_begun_again(
    ctx: Context, database: Database, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the clock of the worker that does so says."""
    monkeypatch.setattr("procrastinate.utils.utcnow", lambda: datetime.now(UTC) + timedelta(minutes=10))
    called = Called()
    await enqueue(sessions, number=1)
    async with sessions.begin() as session:
        assert [(job.task, job.jobs) for job in await waiting_jobs(session)] == [("told", 1)]
        await session.execute(IN_DEAD_HANDS)
    async with doing(ctx, database, tasks=[Task("told", called)]):
        await called.times(1)
    assert called.with_args == [{"number": 1}]


async def test_what_is_under_way_when_a_worker_stops_is_put_back(
    ctx: Context, database: Database, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.worker.chores.GRACE_SECONDS", 0.1)
    begun = asyncio.Event()

    async def for_ever(_: Context, **__: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with doing(ctx, database, tasks=[Task("told", for_ever)]):
        await enqueue(sessions, number=1)
        await asyncio.wait_for(begun.wait(), 20)
    async with sessions() as session:
        assert (await session.scalars(JOBS)).all() == ["todo"]


async def test_a_task_of_another_version_is_left_alone(
    ctx: Context, database: Database, sessions: Sessions
) -> None:
    called = Called()
    await enqueue(sessions, number=1)
    async with doing(ctx, database, [Chore("sweep", EACH_SECOND, called)]):
        await called.times(2)
    async with sessions() as session:
        assert (await session.scalars(JOBS)).all() == ["todo"]


async def test_chores_outlast_their_connections(ctx: Context, database: Database, sessions: Sessions) -> None:
    called = Called()
    async with doing(ctx, database, tasks=[Task("told", called)]):
        await enqueue(sessions, number=1)
        await called.times(1)
        async with sessions.begin() as session:
            assert await session.scalar(CUT_OFF)
        await enqueue(sessions, number=2)
        await called.times(2)
