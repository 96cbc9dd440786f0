"""Where files are kept. What is visible is whole: it appears at once, after it is safely on disk."""

import asyncio
import errno
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
READ_BYTES = 1 << 18
FOLDER_MODE, FILE_MODE = 0o750, 0o640


class StorageFull(Exception):
    """There is no room; nothing became visible."""


class NotStored(Exception):
    """The store has no file of that key."""


class LocalStore:
    """Files below a folder, by key: a relative path of letters, digits, dots, dashes and underscores."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partials = root / ".partial"

    @asynccontextmanager
    async def writer(self, key: str) -> AsyncIterator["Writer"]:
        """A new file of that key; left without `publish`, nothing of it remains. Raises `StorageFull`."""
        target = self._path(key)
        partial = self._partials / uuid4().hex
        with _storage_full():
            file = await asyncio.to_thread(_create, partial)
        try:
            yield Writer(file, partial, target)
        finally:
            await asyncio.shield(asyncio.to_thread(_discard, file, partial))

    async def open(self, key: str) -> "StoredFile":
        """The file as it is now; reading it goes on even if it is deleted. Raises `NotStored`."""
        try:
            file = await asyncio.to_thread(self._path(key).open, "rb")
        except FileNotFoundError:
            raise NotStored(key) from None
        return StoredFile(file, os.fstat(file.fileno()).st_size)

    async def delete(self, key: str) -> None:
        """Nothing happens where there is no such file."""
        await asyncio.to_thread(self._path(key).unlink, missing_ok=True)

    async def sweep(self, older_than: float) -> int:
        """Remove what writers that were killed have left, so many seconds old; returns how many files."""
        return await asyncio.to_thread(self._sweep, time.time() - older_than)

    def _sweep(self, before: float) -> int:
        left = [path for path in self._partials.glob("*") if path.stat().st_mtime < before]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def location(self, key: str) -> str:
        """A URL that names the file to people and programs on this machine."""
        return self._path(key).absolute().as_uri()

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"not a key: {key!r}")
        return self._root / key


class Writer:
    """A file being written, invisible until published."""

    def __init__(self, file: BinaryIO, partial: Path, target: Path) -> None:
        self._file = file
        self._partial = partial
        self._target = target

    async def write(self, piece: bytes) -> None:
        """Add to the end. Raises `StorageFull`."""
        with _storage_full():
            await asyncio.to_thread(self._file.write, piece)

    async def publish(self) -> None:
        """Make the whole file visible, once it is on disk. Raises `StorageFull`."""
        with _storage_full():
            await asyncio.to_thread(self._publish)

    def _publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._target.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self._partial.replace(self._target)
        # Names are data of the folder: without this a power cut may forget the file, or its folder.
        for folder in (self._target.parent, self._target.parent.parent):
            _sync(folder)


class StoredFile:
    """A file being read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    async def chunks(self) -> AsyncIterator[bytes]:
        """The whole of it, once; the file is closed at the end."""
        try:
            while piece := await asyncio.to_thread(self._file.read, READ_BYTES):
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it without reading."""
        self._file.close()


def _sync(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _create(partial: Path) -> BinaryIO:
    # Nothing for other accounts of the machine; a mode for `mkdir` does not reach the parents it makes.
    partial.parent.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    partial.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
    # Buffered, for a raw file may write less than it was given.
    return open(partial, "xb", opener=_for_us_alone)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _discard(file: BinaryIO, partial: Path) -> None:
    # What is still buffered need not fit any more: the file goes anyway.
    with suppress(OSError):
        file.close()
    partial.unlink(missing_ok=True)


@contextmanager
def _storage_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFull(str(error)) from error
        raise
