"""What it costs to archive a file: fetched, verified, hashed, counted and stored, against the plain way.

    .venv/bin/python -m benchmarks archives                 # of 10 MB and of 1 GB before compression
    .venv/bin/python -m benchmarks.archive 10 1000 10000    # of so many MB

The plain way is `curl`, `gzip -t`, `sha256sum` and `zcat | wc -l`, one after the other, of the same file
from the same server in the same run. The speed is the plain way's seconds over ours: 1 is as fast, more is
faster. Memory is the most that our process, a new one for each file, has had. Files are in a temporary folder
(TMPDIR) and go at the end.
"""

import asyncio
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import orjson
import uvicorn
import uvloop
from isal import igzip
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

from app.artifacts.fetch import Download, DownloadPolicy, fetched
from app.artifacts.store import open_store
from app.artifacts.verify import Limits, Verifier
from benchmarks.result import Result
from benchmarks.tasks import POOL, task

PLAIN = """
set -e
curl --silent --fail --noproxy "*" -o plain {url}
gzip -t < plain
sha256sum plain
zcat < plain | wc -l
"""


async def archives() -> list[Result]:
    return await asyncio.to_thread(lambda: list(compared(10, 1000)))


def compared(*sizes: int) -> Iterator[Result]:
    for size in sizes:
        with TemporaryDirectory() as name, served(Path(name)) as url:
            packed = written(Path(name) / "source", size * 10**6) // 10**6
            began = time.perf_counter()
            subprocess.run(
                ["/bin/sh", "-c", PLAIN.format(url=url)], cwd=name, check=True, stdout=subprocess.DEVNULL
            )
            plain = time.perf_counter() - began
            command = [sys.executable, "-m", "benchmarks.archive", "archive", url, name]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
        ours, memory = float(told[0]), int(told[1])
        yield Result(
            f"a file of {size:,} MB ({packed:,} MB packed) archived, at {memory} MB of memory",
            f"{ours:.1f} s",
            f"the plain way: {plain:.1f} s",
            plain / ours,
        )


def written(source: Path, size: int) -> int:
    """Tasks, each with a gid of its own; the compressed size."""
    dice = random.Random(7)
    pool = [orjson.dumps(task(dice) | {"gid": "GID"}, option=orjson.OPT_APPEND_NEWLINE) for _ in range(POOL)]
    number = 10**15
    with igzip.open(source, "wb", compresslevel=2) as file:
        while size > 0:
            number += 1
            size -= file.write(dice.choice(pool).replace(b"GID", b"%d" % number, 1))
    return source.stat().st_size


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """By a process of its own, that knows ranges."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.archive", "serve", str(folder), str(port)]
    with subprocess.Popen(command) as server:
        try:
            yield f"http://127.0.0.1:{port}/source"
        finally:
            server.kill()


def serve(folder: str, port: str) -> None:
    files = Starlette()
    files.mount("/", StaticFiles(directory=folder))
    uvicorn.run(files, port=int(port), log_level="critical")


def archive(url: str, folder: str) -> None:
    """As a worker does; prints the seconds, and the most memory the process has had, in MB."""
    began = time.perf_counter()
    uvloop.run(archived(url, folder))
    print(time.perf_counter() - began)
    print(most_memory() // 10**6)


def most_memory() -> int:
    """Bytes. What the kernel keeps for getrusage begins with the memory of the parent process, so that it is
    asked elsewhere where it can be."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def archived(url: str, folder: str) -> None:
    async def address() -> str:
        return url

    async def pause(_: int, __: float) -> None:
        raise AssertionError("nothing is to go wrong here")

    store, verifier = open_store((Path(folder) / "store").as_uri()), Verifier(Limits(1 << 26, 1 << 40))
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        download = Download(http, DownloadPolicy(("127.0.0.1",), allow_http=True), address, pause)
        async with fetched(download, store, "archived", verifier) as (writer, _):
            await writer.publish()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", folder, port]:
            serve(folder, port)
        case ["archive", url, folder]:
            archive(url, folder)
        case sizes:
            for result in compared(*map(int, sizes)):
                print(result, flush=True)
