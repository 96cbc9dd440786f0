"""The service on one machine: its parts as processes of their own, which live and end together."""

import asyncio
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlparse

from app.settings import ENV_PREFIX

STOP_SECONDS = 30.0


class PartFailed(Exception):
    """A part has ended by itself; the message names it and the end of what it said."""


class Part:
    """A running part of the service."""

    def __init__(self, name: str, process: Process, log: Path | None) -> None:
        self.name = name
        self._process = process
        self._log = log

    async def address(self) -> str:
        """The URL the part has announced, once it listens. Raises `PartFailed`."""
        line = await self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise await self.failure()
        return line.decode().split()[-1]

    async def failure(self) -> PartFailed:
        """What to raise once it has ended, which this waits for."""
        code = await self._process.wait()
        said = self._log.read_text(errors="replace").strip().splitlines()[-20:] if self._log else []
        return PartFailed("\n".join([f"the {self.name} has ended with exit code {code}", *said]))

    async def stop(self) -> None:
        """Ask it to end, as the end of this process would; kill it when it does not."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running(
    name: str, *options: str, variables: Mapping[str, str] | None = None, log: Path | None = None
) -> AsyncIterator[Part]:
    """Run a command of ours as a part until the block ends.

    `variables` are set in its environment; what it logs goes to a file, or where our own log goes.
    """
    # A session of its own: Ctrl-C is for us, and we end the parts in order.
    with (log or Path(os.devnull)).open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.cli", "--attached", name, *options,
            stdin=PIPE, stdout=PIPE, stderr=file if log else None,
            env={**os.environ, **(variables or {})}, start_new_session=True,
        )  # fmt: skip
    part = Part(name, process, log)
    try:
        yield part
    finally:
        await part.stop()


def against(asana_url: str) -> dict[str, str]:
    """The variables by which a part talks to a stand-in Asana on this machine."""
    variables = {
        "ASANA_URL": asana_url,
        "DOWNLOAD_HOSTS": urlparse(asana_url).hostname or "",
        "DOWNLOAD_ALLOW_HTTP": "true",
    }
    return {ENV_PREFIX + name: value for name, value in variables.items()}


def end_with_parent() -> None:
    """Let SIGTERM come to this process when standard input closes, which even kill -9 of its parent does."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True, name="end with parent").start()
