"""Where files are kept: a folder, or a bucket of S3, Google or Azure. What is visible is whole."""

import asyncio
import errno
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlparse
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url
from starlette.concurrency import iterate_in_threadpool

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

T = TypeVar("T")

KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
# A file is sent in parts, two at a time; S3 takes 10,000 of them, so that files may have 80 GB.
PART_BYTES, PARTS_AT_ONCE = 8 << 20, 2
READ_BYTES = 1 << 18
# The silence after which a store is taken for dead.
PATIENCE_SECONDS = 60.0
# Putting the parts of a large file together takes a store minutes.
PUBLISH_SECONDS = 600.0
# Its time-out is for a whole file, ours for each piece. An address by plain http can only be one that the
# operator has given: those of the providers are https.
CLIENT: "ClientConfig" = {
    "allow_http": True,
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(days=1),
}
RETRIES: "RetryConfig" = {
    "max_retries": 3,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    "retry_timeout": timedelta(seconds=30),
}
FOLDER_MODE, FILE_MODE = 0o750, 0o640
NO_ROOM_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
OS_ERROR = re.compile(r"\(os error (\d+)\)")
# How S3's likenesses say it: as WebDAV does (RFC 4918), or by codes of Ceph and MinIO.
NO_ROOM = re.compile(r"507 Insufficient Storage|QuotaExceeded|StorageFull")


class StorageFull(Exception):
    """There is no room; nothing became visible."""


class StoreFailed(Exception):
    """The store did not do as asked, for now; it may be asked again."""


class NotStored(Exception):
    """The store has no file of that key."""


@dataclass(frozen=True)
class Entry:
    """What the store says of a file it has."""

    key: str
    bytes: int
    modified_at: datetime

    @classmethod
    def of(cls, found: "ObjectMeta") -> "Entry":
        return cls(found["path"], found["size"], found["last_modified"])


class Store:
    """Files by key: a relative path of letters, digits, dots, dashes and underscores.

    Several machines may use it at once. A file is written once and not changed again.
    """

    def __init__(self, objects: ObjectStore, root: str, folder: Path | None = None) -> None:
        self.objects = objects
        self.folder = folder
        self._root = root.rstrip("/")

    @asynccontextmanager
    async def writer(self, key: str) -> AsyncIterator["Writer"]:
        """A new file of that key; left without `publish`, nothing of it remains.

        Raises `StorageFull` or `StoreFailed`, as the writer itself does.
        """
        writer = Writer(self, _checked(key))
        try:
            yield writer
        finally:
            await asyncio.shield(writer.discard())

    @asynccontextmanager
    async def published(self, writers: Sequence["Writer"], *, unless: type[Exception]) -> AsyncIterator[None]:
        """Make files visible, to be recorded within: a record without its file must never be. Should that
        end in `unless`, nobody wants them, and they are deleted, as where not all could be published.
        """
        try:
            for writer in writers:
                await writer.publish()
            yield
        except (unless, StorageFull, StoreFailed):
            for writer in writers:
                await self.delete(writer.key)
            raise

    async def size(self, key: str) -> int:
        """Of the file as it is now, in bytes. Raises `NotStored` or `StoreFailed`."""
        async with _asked():
            return (await obstore.head_async(self.objects, _checked(key)))["size"]

    async def open(self, key: str, start: int = 0, end: int | None = None) -> "StoredFile":
        """The file as it is now, from byte `start` to before `end`; on a disk, reading it goes on even if it
        is deleted. Raises `NotStored` or `StoreFailed`."""
        wanted: GetOptions = (
            {"range": {"offset": start} if end is None else (start, end)} if start or end else {}
        )
        async with _asked():
            found = await obstore.get_async(self.objects, _checked(key), options=wanted)
        return StoredFile(found)

    async def delete(self, key: str) -> None:
        """Nothing happens where there is no such file. Raises `StoreFailed`."""
        with suppress(NotStored):
            async with _asked():
                await obstore.delete_async(self.objects, _checked(key))

    async def files(self) -> AsyncIterator[Entry]:
        """Every file that a key can name, in no order. Raises `StoreFailed`.

        The root may have folders that are none of ours and not to be read: that of a disk has `lost+found`.
        """
        async with _asked():
            top = await obstore.list_with_delimiter_async(self.objects)
        for found in top["objects"]:
            yield Entry.of(found)
        for folder in filter(KEY.fullmatch, top["common_prefixes"]):
            async for page in _each(obstore.list(self.objects, f"{folder}/", chunk_size=1000)):
                for found in page:
                    yield Entry.of(found)

    async def signed_url(self, key: str, seconds: float) -> str | None:
        """An address at which the file can be had for so long without a key; None where there is no such
        thing, as for a folder. Raises `StoreFailed`."""
        if not isinstance(self.objects, S3Store | GCSStore | AzureStore):
            return None
        async with _asked():
            return await obstore.sign_async(self.objects, "GET", _checked(key), timedelta(seconds=seconds))

    def location(self, key: str) -> str:
        """A URL that names the file to people and programs that can reach the store."""
        return f"{self._root}/{_checked(key)}"

    async def sweep(self, older_than: float) -> int:
        """Remove what writers that were killed have left, so many seconds old; returns how many files.

        In a bucket such parts are invisible; a rule of the bucket has to remove them.
        """
        if self.folder is None:
            return 0
        async with _asked():
            return await asyncio.to_thread(_sweep, self.folder, time.time() - older_than)


class Writer:
    """A file being written, invisible until published."""

    def __init__(self, store: Store, key: str) -> None:
        self.key = key
        self._store = store
        self._file = obstore.open_writer_async(
            store.objects, key, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
        )
        self._closing = self._published = False

    async def write(self, piece: bytes) -> None:
        """Add to the end. Raises `StorageFull` or `StoreFailed`."""
        async with _written():
            await self._file.write(piece)

    async def write_all(self, pieces: Iterator[bytes]) -> None:
        """Add what an iterator gives that computes or reads. Raises `StorageFull` or `StoreFailed`."""
        async for piece in iterate_in_threadpool(pieces):
            await self.write(piece)

    async def publish(self) -> None:
        """Make the whole file visible, and return once it is safe. Raises `StorageFull` or `StoreFailed`."""
        self._closing = True
        async with _written(PUBLISH_SECONDS):
            await self._file.close()
            if self._store.folder:
                await asyncio.to_thread(_settle, self._store.folder / self.key)
        self._published = True

    async def discard(self) -> None:
        """Leave nothing of what was not published."""
        if self._published:
            return
        # It is told of a failure to give up by leaving it with one.
        with suppress(StoreFailed, StorageFull):
            async with _written():
                await self._file.__aexit__(StoreFailed, StoreFailed(), None)
        if self._closing:
            # It may have become visible though we were not told.
            with suppress(StoreFailed):
                await self._store.delete(self.key)


class StoredFile:
    """A file being read; `size` is that of the whole of it, whatever part was asked for."""

    def __init__(self, found: "GetResult") -> None:
        self._found = found
        self.size = found.meta["size"]

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, once. Raises `StoreFailed`."""
        async for piece in _each(self._found.stream(READ_BYTES)):
            yield bytes(piece)


def open_store(url: str) -> Store:
    """The store at `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container`.

    Where it is and who we are is taken from the environment by the names of each provider's own tools
    (`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_…`), or
    asked of the machine it runs on.
    """
    if url.startswith("file:"):
        folder = Path(url2pathname(urlparse(url).path))
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        return Store(LocalStore(folder), folder.as_uri(), folder)
    return Store(from_url(url, client_options=CLIENT, retry_config=RETRIES), url)


def _checked(key: str) -> str:
    if not KEY.fullmatch(key):
        raise ValueError(f"not a key: {key!r}")
    return key


def _sweep(folder: Path, before: float) -> int:
    # Names that no key can have: what is being written is called as it will be, and a number.
    swept = 0
    for path in folder.rglob("*#*"):
        # Its writer may be at work, and have it renamed.
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
                swept += 1
    return swept


def _settle(file: Path) -> None:
    """Have the file survive a power cut, and be nobody else's to read."""
    file.chmod(FILE_MODE)
    file.parent.chmod(FOLDER_MODE)
    # Names are data of the folder: without this a power cut may forget the file, or its folder.
    for path in (file, file.parent, file.parent.parent):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@asynccontextmanager
async def _written(patience: float = PATIENCE_SECONDS) -> AsyncIterator[None]:
    """As `_asked`; what is not there is the bucket then, or the upload."""
    try:
        async with _asked(patience):
            yield
    except NotStored as error:
        raise StoreFailed(str(error)) from None


@asynccontextmanager
async def _asked(patience: float = PATIENCE_SECONDS) -> AsyncIterator[None]:
    """Speak of the store's troubles in our words."""
    try:
        async with asyncio.timeout(patience):
            yield
    except FileNotFoundError as error:
        raise NotStored(_first_line(error)) from None
    except TimeoutError:
        raise StoreFailed(f"no answer within {patience:.0f} seconds") from None
    except (BaseError, OSError) as error:
        raise (StorageFull if _is_full(error) else StoreFailed)(_first_line(error)) from None


async def _each(stream: AsyncIterator[T]) -> AsyncIterator[T]:
    while True:
        async with _asked():
            found = await anext(stream, None)
        if found is None:
            return
        yield found


def _is_full(error: Exception) -> bool:
    found = OS_ERROR.search(str(error))
    number = int(found[1]) if found else getattr(error, "errno", None)
    return number in NO_ROOM_NUMBERS or bool(NO_ROOM.search(str(error)))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
