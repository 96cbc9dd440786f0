"""The command as people and scripts run it: with its own home, in a pipe or on a terminal."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.leaks import leaks
from tests.processes import COMMAND, until

WITHIN = 120
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True)
class Said:
    """How a command has ended, and what it has said where."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on standard output."""
        return msgspec.json.decode(self.out)

    def lines(self) -> list[Any]:
        """The documents on standard output, one to a line."""
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """Runs commands in a folder; `env` may be changed between them."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict, repr=False)

    async def run(self, *words: str | Path, stdin: str = "", secret: bool = False) -> Said:
        """A command, to its end. Only where `secret`, its standard output may have something secret."""
        async with self.running(*words, stdin=PIPE) as process, asyncio.timeout(WITHIN):
            out, err = await process.communicate(stdin.encode())
        said = Said(process.returncode or 0, out.decode(), err.decode())
        assert not leaks(said.err)
        assert secret or not leaks(said.out)
        assert "Traceback" not in said.err
        return said

    @asynccontextmanager
    async def running(
        self, *words: str | Path, stdin: int = asyncio.subprocess.DEVNULL
    ) -> AsyncIterator[Process]:
        """A command while it runs; it does not outlive the block."""
        process = await asyncio.create_subprocess_exec(
            COMMAND, *words, cwd=self.folder, env=self._env(), stdin=stdin, stdout=PIPE, stderr=PIPE
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def on_terminal(self, *words: str | Path, columns: int = 80) -> "Terminal":
        return Terminal([str(COMMAND), *map(str, words)], self.folder, self._env(), columns)

    def _env(self) -> dict[str, str]:
        # A terminal says itself how wide it is.
        ours = ("ASANA_EXPORTS_", "COLUMNS", "LINES")
        given = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**given, "XDG_CONFIG_HOME": str(self.folder / "config"), "TERM": "xterm-256color", **self.env}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, words: list[str], folder: Path, env: dict[str, str], columns: int) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.set_blocking(self._terminal, False)
        self._child = subprocess.Popen(
            words, cwd=folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self._raw = b""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._terminal)
        assert not leaks(self.shown)

    @property
    def raw(self) -> str:
        """All that was ever written to it."""
        return self._raw.decode(errors="replace")

    @property
    def shown(self) -> str:
        """The same without colours and movements."""
        return ESCAPES.sub("", self.raw)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def interrupt(self) -> None:
        self._child.send_signal(signal.SIGINT)

    async def says(self, words: str) -> None:
        async def look() -> bool | None:
            self._read()
            return words in self.shown or None

        await until(look, WITHIN, lambda: f"{words!r} in:\n{self.shown}")

    async def ended(self) -> int:
        """The exit code."""

        async def look() -> int | None:
            self._read()
            return self._child.poll()

        code = await until(look, WITHIN, lambda: f"an end of:\n{self.shown}")
        self._read()
        return code

    def _read(self) -> None:
        # A terminal whose last user has gone gives an error instead of an end.
        with suppress(BlockingIOError, OSError):
            while piece := os.read(self._terminal, 1 << 16):
                self._raw += piece
