"""Converting in a process of its own: what it costs in memory, and a crash, stay with it."""

import asyncio
import os
import sys
from asyncio import StreamReader
from asyncio.subprocess import PIPE
from pathlib import Path

from pydantic import TypeAdapter

from app.artifacts.outputs import Format, Output, Unconvertible
from app.artifacts.store import StorageFull

OUTPUTS = TypeAdapter(list[Output])
# By the exit status of `app.artifacts.converter`.
FAILURES: dict[int, type[Exception]] = {65: Unconvertible, 73: StorageFull}
SAID_LAST = 1000


# None of the worker's secrets: what is read there came from outside.
HANDED_ON = {"PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"}


class Crashed(Exception):
    """The process ended without an answer."""


async def convert_apart(
    source: Path, folder: Path, form: Format, *, untyped: str, line_bytes: int, memory_bytes: int
) -> list[Output]:
    """As `convert`, in a process that may use so much memory and ends with this one, or when canceled.

    Raises `Unconvertible`, `StorageFull` or `Crashed`.
    """
    environ = {name: os.environ[name] for name in HANDED_ON & {*os.environ}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # Nothing from the folder that the worker happens to be in.
        *("-P", "-m", "app.artifacts.converter", source, folder),
        *(form, untyped, str(line_bytes), str(memory_bytes)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        # Arrow's own allocator reserves more than it uses, which would count as used.
        env=environ | {"ARROW_DEFAULT_MEMORY_POOL": "system"},
        # Ctrl-C is for the worker, which ends this one in order.
        start_new_session=True,
    )
    try:
        answer, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status == 0:
        return OUTPUTS.validate_json(answer)
    said = (answer or complaint).decode(errors="replace").strip()[-SAID_LAST:]
    raise FAILURES.get(status, Crashed)(said or f"the converting process ended with {status}")


async def _read(stream: StreamReader | None) -> bytes:
    return await stream.read() if stream else b""
