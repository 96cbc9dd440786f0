"""Files on disk: written in a thread, line by line, and thrown away when there are too many."""

import asyncio
import gzip
import hashlib
import shutil
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import mkdtemp

from isal import isal_zlib

from app.sandbox.faults import Fault, FaultKind
from app.sandbox.recipe import Recipe

LINES_AT_ONCE = 256
GZIP_FRAMING = 31


class SpoolClosed(Exception):
    """The stand-in ends while a file is being written."""


@dataclass(frozen=True)
class SpooledFile:
    """A file ready to be served."""

    path: Path
    etag: str


class Spool:
    """A folder of files that can all be made again, because their bytes follow from their recipes."""

    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="asana-sandbox-"))
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="spool")
        self._files: OrderedDict[str, asyncio.Future[SpooledFile]] = OrderedDict()
        self._closed = False

    def begin(self, name: str, recipe: Recipe, keep: int) -> asyncio.Future[SpooledFile]:
        """Start to write the file, unless it is there already."""
        file = self._files.get(name)
        if file is None or (file.done() and file.exception()):
            loop = asyncio.get_running_loop()
            file = self._files[name] = loop.run_in_executor(self._threads, self._write, name, recipe)
        self._files.move_to_end(name)
        self._forget_all_but(keep)
        return file

    async def damaged(self, file: SpooledFile, fault: Fault) -> SpooledFile:
        """A copy of the file with the fault in it, under the same ETag: the harm is done on the way."""
        return await asyncio.to_thread(_damage, file, fault)

    def close(self) -> None:
        """Stop writing and remove the folder."""
        self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, recipe: Recipe) -> SpooledFile:
        path = self._folder / f"{name}.jsonl.gz"
        digest, lines = hashlib.md5(usedforsecurity=False), recipe.lines()
        compressor = isal_zlib.compressobj(level=1, wbits=GZIP_FRAMING)
        with path.open("wb") as file:
            while batch := list(islice(lines, LINES_AT_ONCE)):
                if self._closed:
                    raise SpoolClosed
                packed = compressor.compress(b"".join(batch))
                digest.update(packed)
                file.write(packed)
            tail = compressor.flush()
            digest.update(tail)
            file.write(tail)
        return SpooledFile(path, f'"{digest.hexdigest()}"')

    def _forget_all_but(self, keep: int) -> None:
        done = [name for name, file in self._files.items() if file.done()]
        for name in done[: max(0, len(self._files) - keep)]:
            file = self._files.pop(name)
            if not file.exception():
                file.result().path.unlink(missing_ok=True)


def _damage(file: SpooledFile, fault: Fault) -> SpooledFile:
    copy = file.path.with_suffix(f".{fault.kind}-{fault.fraction:g}")
    size = file.path.stat().st_size
    place = min(int(size * fault.fraction), size - 1)
    if fault.kind is FaultKind.NOT_JSON_LINES:
        copy.write_bytes(gzip.compress(b"gid,name\n1,not JSON\n" * 100, mtime=0))
        return SpooledFile(copy, file.etag)
    shutil.copyfile(file.path, copy)
    with copy.open("r+b") as damaged:
        if fault.kind is FaultKind.TRUNCATE_FILE:
            damaged.truncate(place)
        else:
            damaged.seek(place)
            byte = damaged.read(1)[0]
            damaged.seek(place)
            damaged.write(bytes([byte ^ 0b100]))
    return SpooledFile(copy, file.etag)
