"""What converting in a process of its own spares the worker."""

import asyncio
import gzip
import json
import os
import resource
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.artifacts.apart import Crashed, convert_apart
from app.artifacts.formats import convert
from app.artifacts.outputs import Format, Unconvertible
from app.artifacts.store import StorageFull
from tests.processes import until

MEMORY = 1 << 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = (json.dumps({"gid": os.urandom(200).hex(), "n": number}) for number in range(20_000))
    path = tmp_path / "source.gz"
    path.write_bytes(gzip.compress("\n".join(rows).encode(), 1))
    return path


async def apart(source: Path, form: Format = Format.PARQUET, memory: int = MEMORY) -> Any:
    return await convert_apart(
        source, source.parent, form, untyped="task", line_bytes=1 << 26, memory_bytes=memory
    )


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A file whose first byte is waited for."""
    path = tmp_path / "source"
    os.mkfifo(path)
    return path


async def child_of(process: psutil.Process) -> psutil.Process:
    """The converting process."""

    async def look() -> psutil.Process | None:
        with suppress(psutil.Error):
            for child in process.children():
                if "app.artifacts.converter" in child.cmdline():
                    return child
        return None

    return await until(look, 30, lambda: "a converting process")


@pytest.mark.parametrize("form", Format)
async def test_the_files_are_those_made_here(source: Path, form: Format) -> None:
    here = convert(source, source.parent, form, untyped="task", line_bytes=1 << 26)
    assert await apart(source, form) == here


async def test_what_cannot_be_converted_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source.gz"
    source.write_bytes(b"no gzip \xff")
    with pytest.raises(Unconvertible, match="the file is damaged"):
        await apart(source)


@pytest.mark.parametrize("form", Format)
async def test_a_full_disk_is_told(source: Path, form: Format) -> None:
    with files_limited_to(1 << 20), pytest.raises(StorageFull, match="File too large"):
        await apart(source, form)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not hold it")
async def test_more_memory_than_allowed_is_not_taken(tmp_path: Path) -> None:
    source = tmp_path / "source.gz"
    source.write_bytes(gzip.compress(b'{"a":[' + b"[]," * 4_000_000 + b"[]]}", 1))
    with pytest.raises(Unconvertible, match=r"more than \d+ bytes of memory"):
        await apart(source, memory=256 << 20)


async def test_a_crash_is_told_with_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(Crashed, match="FileNotFoundError"):
        await apart(tmp_path / "nothing")


async def test_who_is_killed_is_told_of(endless: Path) -> None:
    task = asyncio.create_task(apart(endless))
    (await child_of(psutil.Process())).kill()
    with pytest.raises(Crashed, match="ended with -9"):
        await task


async def test_one_that_is_canceled_leaves_no_process(endless: Path) -> None:
    task = asyncio.create_task(apart(endless))
    child = await child_of(psutil.Process())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not child.is_running()


async def test_it_ends_with_a_worker_that_is_killed(endless: Path) -> None:
    program = f"""
        import asyncio
        from tests.artifacts.test_apart import Path, apart
        asyncio.run(apart(Path({str(endless)!r})))
    """
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(program))
    child = await child_of(psutil.Process(worker.pid))
    worker.kill()
    await worker.wait()
    await asyncio.to_thread(child.wait, 20)


async def test_secrets_of_the_worker_are_not_handed_on(
    endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ASANA_EXPORTS_SECRET_KEYS", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    task = asyncio.create_task(apart(endless))
    child = await child_of(psutil.Process())
    assert "secret" not in child.environ().values()
    task.cancel()
    await asyncio.wait({task})
