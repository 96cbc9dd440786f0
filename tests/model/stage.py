"""Real workers that go on only when told to: from one commit, or call of Asana, to the next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Concatenate, ParamSpec, TypeVar

import httpx
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database.session import Database
from app.exports.models import Run, Status
from app.exports.runs import HeldArchive
from app.lanes.claim import HeldLane
from app.lanes.lease import LaneLost
from app.worker.archive import Archiving
from app.worker.backoff import Backoff
from app.worker.context import Context
from app.worker.process import WorkerProcess
from app.worker.sweep import sweep
from app.worker.transactions import Transactions

P = ParamSpec("P")
T = TypeVar("T")

# What only reads goes with the step before it.
LOOKS = {"_read", "past_durations", "seconds_in_progress", "never_admitted"}
HOLDS_LANE = text("""
    SELECT EXISTS (
        SELECT FROM lanes JOIN workers ON workers.id = holder
        WHERE key = :key AND holder = :worker AND fence = :fence AND lease_expires_at > clock_timestamp())
""")
HOLDS_ARCHIVE = text("""
    SELECT EXISTS (
        SELECT FROM runs WHERE id = :run AND status = 'archiving' AND archiver = :worker
        AND archive_fence = :fence)
""")
LAST_EVENT = text("SELECT max(seq) FROM events")
SWEEP_SECONDS = 60.0


@dataclass(eq=False)
class Story:
    """One of a worker's coroutines: it stands before its next step, or is on its way there."""

    worker: "SteppedWorker"
    name: str
    next: str = ""
    due: float = 0.0
    gate: asyncio.Future[bool] | None = None
    moving: bool = False
    has_unsaved_job: bool = False

    @property
    def ready(self) -> bool:
        return self.gate is not None and self.due <= self.worker.stage.time

    def __str__(self) -> str:
        return f"worker {self.worker.number}, {self.name}: {self.next}"


STORY: ContextVar[Story] = ContextVar("story")


class Stage:
    """Where the workers act, one step at a time, and what went wrong there."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = faults
        self.time = 0.0
        self.stories: list[Story] = []
        self.answers_lost = self.calls = 0
        self.arrived = asyncio.Event()

    async def step(self, story: Story, *, answer_lost: bool = False) -> None:
        """Let a story take the step that it stands before; the database's answer to it may get lost."""
        gate, story.gate, story.moving = story.gate, None, True
        assert gate is not None
        gate.set_result(answer_lost)
        await self.settled()

    async def settled(self) -> None:
        """Wait until every story stands before a step again."""
        async with asyncio.timeout(120):
            await _let_others_run()
            while any(story.moving for story in self.stories):
                self.arrived.clear()
                await self.arrived.wait()
                await _let_others_run()


async def pause(what: str, due: float = 0.0, *, always: bool = True) -> bool:
    """Stand before a step until told to take it; returns whether the answer to it will be lost.

    A step that is not worth a pause is taken in passing, except by a story that was not told to go on.
    """
    story = STORY.get()
    if story.worker.killed:
        raise asyncio.CancelledError
    if story.moving and not always:
        return False
    gate: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    story.gate, story.next, story.due, story.moving = gate, what, due, False
    story.worker.stage.arrived.set()
    try:
        return await gate
    finally:
        if story.gate is gate:
            story.gate = None


async def _let_others_run() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


class StageClock:
    """Time that passes when it is told to."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def now(self) -> datetime:
        # What is written down is aged instead.
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self._stage.time

    async def sleep(self, seconds: float) -> None:
        await pause("sleep", self._stage.time + seconds)


class LossySessions(async_sessionmaker[AsyncSession]):
    """Sessions whose commit may work without the caller hearing of it."""

    lose_answer = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:  # type: ignore[override]
        lose_answer, self.lose_answer = self.lose_answer, False
        async with super().begin() as session:
            yield session
        if lose_answer:
            raise PoolTimeout("the answer was lost")


class SteppedSessions(LossySessions):
    """Sessions of which each is a step."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncSession]:  # type: ignore[override]
        self.lose_answer = await pause("transaction")
        async with super().begin() as session:
            yield session


class SteppedTransactions(Transactions):
    """Transactions of which each is a step, watched: only who holds the lane or the file may write for it."""

    def __init__(self, stage: Stage, sessions: LossySessions, clock: StageClock, longest: float) -> None:
        super().__init__(sessions, clock, Backoff(60, 60, Random(0)), longest)
        self._stage = stage
        self._lossy = sessions

    async def __call__(
        self, step: Callable[Concatenate[AsyncSession, P], Awaitable[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        self._lossy.lose_answer = await pause(_named(step), always=_named(step) not in LOOKS)

        async def watched(session: AsyncSession, /, *args: P.args, **kwargs: P.kwargs) -> T:
            held = next((arg for arg in args if isinstance(arg, HeldLane | HeldArchive)), None)
            may = held is None or await _holds(session, held)
            before = await session.scalar(LAST_EVENT)
            try:
                result = await step(session, *args, **kwargs)
            except LaneLost:
                if may:
                    self._stage.faults.append(f"{_named(step)} was refused to the holder of {held}")
                raise
            # A file that was recorded before is recorded again in silence.
            silent = isinstance(held, HeldArchive) and await session.scalar(LAST_EVENT) == before
            if not (may or silent):
                self._stage.faults.append(f"{_named(step)} was let through without {held}")
            return result

        result = await super().__call__(watched, *args, **kwargs)
        if _named(step) == "submitted":
            STORY.get().has_unsaved_job = False
        return result


async def _holds(session: AsyncSession, held: HeldLane | HeldArchive) -> bool:
    statement = HOLDS_LANE if isinstance(held, HeldLane) else HOLDS_ARCHIVE
    return bool(await session.scalar(statement, vars(held)))


def _named(step: Callable[..., object]) -> str:
    return getattr(step, "__name__", repr(step))


class SteppedCalls(httpx.AsyncBaseTransport):
    """Calls of Asana, of which each that starts something is a step."""

    def __init__(self, stage: Stage, http: httpx.AsyncBaseTransport) -> None:
        self._stage = stage
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        starts = request.method == "POST"
        if starts and STORY.get().worker.lease_is_over:
            self._stage.faults.append(f"{STORY.get()} asked Asana after its lease")
        await pause(f"{request.method} {request.url.path}", always=starts)
        self._stage.calls += 1
        try:
            response = await self._http.handle_async_request(request)
        except httpx.TransportError:
            self._stage.answers_lost += starts
            raise
        if starts and response.status_code == 201:
            STORY.get().has_unsaved_job = True
        return response


class SteppedArchiving(Archiving):
    """The files of a stepped worker."""

    def __init__(self, ctx: Context, worker: "SteppedWorker") -> None:
        super().__init__(ctx)
        self._worker = worker
        # Who waits for a place would neither stand before a step nor be on the way to one.
        self._places = asyncio.Semaphore(1000)

    async def _work(self, archive: HeldArchive) -> None:
        with self._worker.telling(f"archive {archive.run}"):
            await super()._work(archive)


class SteppedWorker(WorkerProcess):
    """A worker's whole process; each of its coroutines is a story."""

    def __init__(self, number: int, stage: Stage, ctx: Context, database: Database) -> None:
        self.number = number
        self.stage = stage
        self.killed = False
        self.stop = asyncio.Event()
        super().__init__(ctx, database, self.stop)
        self._archiving = SteppedArchiving(ctx, self)
        self.life = asyncio.create_task(self.run())

    @property
    def name(self) -> str:
        return self._ctx.lease.worker

    @property
    def lease_is_over(self) -> bool:
        return self._ctx.lease.remaining <= 0

    @property
    def works(self) -> bool:
        """Whether it goes on taking lanes."""
        return not (self.life.done() or self.stop.is_set() or self.lease_is_over)

    def ready(self, kind: str) -> list[Story]:
        """Its stories of a kind that may go on, in an order that is the same each time."""
        mine = [story for story in self.stage.stories if story.worker is self and story.ready]
        return sorted((story for story in mine if story.name.startswith(kind)), key=lambda story: story.name)

    async def keep(self, kind: str) -> None:
        """Let the stories of a kind go on until they have nothing to do now."""
        while stories := self.ready(kind):
            await self.stage.step(stories[0])

    async def register(self) -> None:
        await self.stage.settled()
        await self.keep("register")

    async def hear(self, canceled: Iterable[Run]) -> None:
        """Get the notifications that were under way, and look for work."""
        self._ctx.upstream.forget_all()
        for run in canceled:
            self._archiving.told(f"{run.lane} {run.id} {Status.CANCELED}")
        self._wake.set()
        await self.stage.settled()
        await self.keep("claim")

    async def kill(self) -> None:
        """What it knew is gone; what it had written stays."""
        self.killed = True
        mine = [story for story in self.stage.stories if story.worker is self]
        self.stage.answers_lost += sum(story.has_unsaved_job for story in mine)
        for story in mine:
            if story.gate:
                story.gate.cancel()
        self.life.cancel()
        await asyncio.wait({self.life})
        await self.stage.settled()

    def knows(self, lane: str) -> bool:
        """Whether it serves the lane, or will find out that it should."""
        return self._unsure or lane in {held.key for held in self._lanes.values()}

    @contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Make the coroutine that runs this a story."""
        story = Story(self, name)
        self.stage.stories.append(story)
        STORY.set(story)
        try:
            yield
        finally:
            if story.has_unsaved_job and not self.killed:
                self.stage.answers_lost += 1
            story.moving = False
            self.stage.stories.remove(story)
            self.stage.arrived.set()

    async def _register(self) -> None:
        with self.telling("register"):
            await super()._register()

    async def _beat(self) -> None:
        with self.telling("beat"):
            await super()._beat()

    async def _claim_lanes(self) -> None:
        with self.telling("claim"):
            await super()._claim_lanes()

    async def _lane(self, lane: HeldLane) -> None:
        with self.telling(f"lane {lane.key}"):
            await super()._lane(lane)

    async def _listen(self) -> None:
        """Every notification gets lost, see `hear`."""
        await asyncio.Event().wait()

    async def _every(self, seconds: float, duty: Callable[[Context], Awaitable[object]]) -> None:
        with self.telling(f"duty {duty.__name__}"):
            await super()._every(seconds, duty)

    async def _watch_lease(self) -> None:
        """Its beat hangs on nothing."""
        await asyncio.Event().wait()

    async def _do_chores(self) -> None:
        """Those that concern lanes, by the time of the stage."""
        await self._every(SWEEP_SECONDS, sweep)

    async def _leave(
        self,
        duties: Iterable[asyncio.Task[None]],
        beating: asyncio.Task[None],
        doing_chores: asyncio.Task[None],
    ) -> None:
        with self.telling("leave"):
            await super()._leave(duties, beating, doing_chores)
