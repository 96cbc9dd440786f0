"""A process of the service that notes each of its commits, and dies at one of them if it is to."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import app.webhooks.tries
import app.worker.chores
import app.worker.process
import app.worker.submit
import app.worker.webhooks
from app.cli import cli
from tests.crash.points import watch
from tests.leaks import leaks
from tests.processes import Process, until

ONCE_A_MINUTE = 60.0
# Forked from a process that has imported everything, one is there in no time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


def be_ready_to_fork() -> None:
    """Wait until everything is imported."""
    first = FORKS.Process(target=int)
    first.start()
    first.join()
    first.close()


class Side(StrEnum):
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Death:
    """By SIGKILL, right before or right after the first commit at a point."""

    side: Side
    point: str

    def __str__(self) -> str:
        return f"{self.side} {self.point}"


class Survived(Exception):
    """This time it has not come to the point at which it was to die."""


class Mortal(Process):
    """A command of the service as a process that keeps a diary of its commits."""

    def __init__(
        self, log: Path, *arguments: str, env: Mapping[str, str], duties: float, death: Death | None = None
    ) -> None:
        self.log = log
        self._diary = log.with_suffix(".commits")
        for file in (log, self._diary):
            file.touch()
        self._forked = FORKS.Process(target=_live, args=(log, self._diary, arguments, env, duties, death))
        self._forked.start()

    @property
    def code(self) -> int | None:
        """How it has ended, if it has."""
        return self._forked.exitcode

    @property
    def lives(self) -> bool:
        return self.code is None

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.code is None and self._forked.pid:
            os.kill(self._forked.pid, number)

    def kill(self) -> None:
        self._forked.kill()
        self._forked.join()

    async def ended(self, within: float = 60) -> int:
        async def code() -> tuple[int] | None:
            return None if self.code is None else (self.code,)

        return (await until(code, within, lambda: f"the end of what was {self.commits()}"))[0]

    async def has_died(self) -> None:
        """By its own hand. Raises `Survived`."""
        with suppress(AssertionError):
            if await self.ended(20) == -signal.SIGKILL:
                return
        raise Survived(self.commits())

    def commits(self) -> list[str]:
        """The points it has come to, each once."""
        return list(dict.fromkeys(self._diary.read_text().splitlines()))

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._forked.close()
        assert not leaks(self.output()), f"secrets in {self.log}"


def _live(
    log: Path,
    diary: Path,
    arguments: Sequence[str],
    env: Mapping[str, str],
    duties: float,
    death: Death | None,
) -> None:
    with log.open("ab", buffering=0) as output:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(output.fileno(), stream.fileno())
    os.environ.update(env)
    app.worker.process.DEADLINE_SECONDS = duties
    # Chores come around by the clock, at most each second.
    chores = app.worker.chores.CHORES if duties < ONCE_A_MINUTE else ()
    app.worker.chores.CHORES = tuple(replace(chore, cron="* * * * * *") for chore in chores)
    app.worker.chores.DEAD_SECONDS, app.worker.chores.BEAT_SECONDS = 2.0, 0.2
    # One try each time, the next one soon, and soon taken from whoever has died.
    app.worker.webhooks.TURN_SECONDS, app.worker.webhooks.MARGIN_SECONDS = 0.0, 1.0
    app.webhooks.tries.PAUSES = (0.5,) * len(app.webhooks.tries.PAUSES)
    # What a busy machine takes longer for is no other way through the code.
    app.worker.submit.FRESH_SECONDS = app.worker.submit.CONVINCING_SECONDS = 60.0
    with diary.open("a", buffering=1) as notes:

        def before(point: str) -> None:
            notes.write(point + "\n")
            _die_if(Death(Side.BEFORE, point) == death)

        watch(before, lambda point: _die_if(Death(Side.AFTER, point) == death))
        cli(arguments)


def _die_if(due: bool) -> None:
    if due:
        os.kill(os.getpid(), signal.SIGKILL)
