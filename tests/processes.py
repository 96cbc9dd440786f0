"""The service's parts as the processes they are, started and killed by tests."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from app.settings import Settings
from tests.leaks import leaks

T = TypeVar("T")
BIN = Path(sys.executable).parent
# Limits say how long something takes at most on a quiet machine; this one may be anything but quiet.
PATIENCE = 4
COMMAND = BIN / "asana-exports"


def variables_of(settings: Settings) -> dict[str, str]:
    """By which a process of ours works with the same things, against a sandbox on this machine."""
    return {
        "DATABASE_URL": settings.database_url or "",
        "DATA_DIR": str(settings.data_dir),
        "SECRET_KEYS": settings.secret_keys[0].get_secret_value(),
        "STORE_URL": settings.store_url,
        "ASANA_URL": settings.asana_url,
        "DOWNLOAD_HOSTS": "127.0.0.1",
        "DOWNLOAD_ALLOW_HTTP": "true",
        "LOG_FORMAT": "json",
    }


class Process:
    """A child whose output goes to a file; whatever a test does, it does not outlive the test."""

    def __init__(self, log: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.log = log
        self._may_tell = not {"api", "worker"} & set(arguments)
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [COMMAND, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def lives(self) -> bool:
        return self._child.poll() is None

    def most_memory(self) -> int:
        """The most bytes it has had in memory so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])

    def kill(self) -> None:
        self._child.kill()
        self._child.wait()

    async def ended(self, within: float = 10) -> int:
        """The exit code."""
        return await asyncio.to_thread(self._child.wait, PATIENCE * within)

    async def said(self, words: str, within: float = 60) -> str:
        """The first line of the output that holds the words."""

        async def line() -> str | None:
            lives = self.lives
            found = next((row for row in self.output().splitlines() if words in row), None)
            if not found and not lives:
                raise AssertionError(f"has ended without {words!r}:\n{self.output()}")
            return found

        return await until(line, within, lambda: f"{words!r} in:\n{self.output()}")

    async def address(self) -> str:
        """The URL it announces once it listens."""
        return (await self.said("listening on", within=120)).rsplit(" ", 1)[-1]

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        assert self._may_tell or not leaks(self.output()), f"secrets in {self.log}"


async def said(
    *command: str | Path, cwd: Path, env: dict[str, str] | None = None, within: float = 240
) -> tuple[int | None, str]:
    """How a program ends, and what it has said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **(env or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE * within):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def until(look: Callable[[], Awaitable[T | None]], within: float, wanted: Callable[[], str]) -> T:
    """What `look` finds, as soon as it finds something."""
    try:
        async with asyncio.timeout(PATIENCE * within):
            # The processes looked at are real, and so is the time they take.
            while (found := await look()) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise AssertionError(f"waited {PATIENCE * within} s in vain for {wanted()}") from None
