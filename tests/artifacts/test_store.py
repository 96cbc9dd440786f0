"""Visible means whole; anything else leaves no trace: in a folder, and in a bucket of S3."""

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.artifacts.store import PART_BYTES, NotStored, StorageFull, Store, StoreFailed, open_store
from tests.servers import Request, always, answer, serving
from tests.stores import S3

SEVERAL_PARTS = os.urandom(1 << 20) * 40


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "folder":
        return open_store((tmp_path / "files").as_uri())
    s3: S3 = request.getfixturevalue("s3")
    s3.be_known(monkeypatch)
    return open_store(s3.place())


async def stored(store: Store, key: str, content: bytes) -> None:
    async with store.writer(key) as writer:
        for start in range(0, len(content), 1 << 20):
            await writer.write(content[start : start + (1 << 20)])
        await writer.publish()


async def read(store: Store, key: str, start: int = 0, end: int | None = None) -> bytes:
    file = await store.open(key, start, end)
    return b"".join([piece async for piece in file.chunks()])


def half_written(file: Path) -> None:
    file.write_bytes(b"half")


def everything(folder: Path) -> list[Path]:
    return [*folder.rglob("*")]


def files(folder: Path) -> list[Path]:
    return [path for path in everything(folder) if path.is_file()]


async def keys(store: Store) -> list[str]:
    return sorted([entry.key async for entry in store.files()])


@pytest.mark.parametrize("content", [b"", b"one", SEVERAL_PARTS])
async def test_a_file_appears_whole_and_only_when_published(store: Store, content: bytes) -> None:
    async with store.writer("1001/a.gz") as writer:
        await writer.write(content)
        with pytest.raises(NotStored):
            await store.open("1001/a.gz")
        await writer.publish()
    assert await read(store, "1001/a.gz") == content
    assert await store.size("1001/a.gz") == (await store.open("1001/a.gz")).size == len(content)
    assert await keys(store) == ["1001/a.gz"]


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 1), (5, 25), (41_943_039, None), (17 << 20, 34 << 20)]
)
async def test_a_part_of_a_file_is_read(store: Store, start: int, end: int | None) -> None:
    await stored(store, "a", SEVERAL_PARTS)
    assert await read(store, "a", start, end) == SEVERAL_PARTS[start:end]
    assert (await store.open("a", start, end)).size == len(SEVERAL_PARTS)


@pytest.mark.parametrize("size", [10, 3 * PART_BYTES])
async def test_an_error_on_the_way_leaves_nothing(store: Store, size: int) -> None:
    async def break_off() -> None:
        async with store.writer("a") as writer:
            await writer.write(b"x" * size)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await keys(store) == []
    assert store.folder is None or files(store.folder) == []


async def test_one_that_is_stopped_leaves_nothing(store: Store) -> None:
    begun = asyncio.Event()

    async def write_on() -> None:
        async with store.writer("a") as writer:
            while True:
                await writer.write(SEVERAL_PARTS)
                begun.set()

    writing = asyncio.create_task(write_on())
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await keys(store) == []
    assert store.folder is None or files(store.folder) == []


async def test_what_is_deleted_is_gone(store: Store) -> None:
    await stored(store, "a", b"x")
    await store.delete("a")
    await store.delete("a")
    for asked in (store.open("a"), store.size("a")):
        with pytest.raises(NotStored):
            await asked


async def test_another_machine_reads_what_one_has_written(store: Store) -> None:
    await stored(store, "1001/a", b"x" * 1000)
    (entry,) = [entry async for entry in store.files()]
    assert (entry.key, entry.bytes) == ("1001/a", 1000)
    if store.folder:
        assert await read(open_store(store.folder.as_uri()), "1001/a") == b"x" * 1000


async def test_what_is_not_ours_is_in_nobodys_way(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    for key in ("top", "1001/a"):
        await stored(store, key, b"x")
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found" / "not-to-be-walked").symlink_to(tmp_path)
    assert await keys(store) == ["1001/a", "top"]


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/", "a\n", "a\\b", "ä", "a#1"]
)
async def test_a_key_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    store = open_store(tmp_path.as_uri())
    for asked in (store.open(key), store.size(key), store.delete(key), store.writer(key).__aenter__()):
        with pytest.raises(ValueError, match="not a key"):
            await asked


async def test_reading_from_a_folder_goes_on_though_the_file_is_deleted(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    await stored(store, "a", SEVERAL_PARTS)
    file = await store.open("a")
    await store.delete("a")
    assert sum([len(piece) async for piece in file.chunks()]) == file.size == len(SEVERAL_PARTS)


@pytest.fixture
def no_room() -> Iterator[None]:
    """A limit on the size of files stands in for the end of the disk: the kernel refuses the same write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("size", [5000, 3 * PART_BYTES])
async def test_a_full_disk_leaves_nothing(tmp_path: Path, size: int) -> None:
    with pytest.raises(StorageFull):
        await stored(open_store(tmp_path.as_uri()), "a", b"x" * size)
    assert files(tmp_path) == []


async def test_no_file_of_a_failed_publication_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may have kept it, and the answer may have been lost."""

    async def keep_and_fail(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(500 if request.method == "PUT" else 204))

    async with serving(keep_and_fail) as server:
        S3(server.url).be_known(monkeypatch)
        with pytest.raises(StoreFailed):
            await stored(open_store("s3://bucket"), "a", b"x")
        # Deleting is by the batch, which is a POST.
        assert "delete" in server.requests[-1].path


async def test_a_bucket_that_is_gone_is_no_missing_file(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(always(answer(404))) as server:
        S3(server.url).be_known(monkeypatch)
        with pytest.raises(StoreFailed):
            await stored(open_store("s3://bucket"), "a", b"x")


async def test_what_a_killed_writer_has_left_is_swept(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    await stored(store, "a", b"x")
    half_written(tmp_path / "b#1")
    assert await store.sweep(older_than=3600) == 0
    assert await store.sweep(older_than=-1) == 1
    assert [path.name for path in everything(tmp_path)] == ["a"]


async def test_a_file_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its names, which are data of the folders. A power cut cannot be had here: what is asked of the
    system is looked at instead."""
    forced = list[Path]()
    monkeypatch.setattr(os, "fsync", lambda opened: forced.append(path_of(opened)))
    await stored(open_store(tmp_path.as_uri()), "1001/a", b"x")
    assert forced == [tmp_path / "1001" / "a", tmp_path / "1001", tmp_path]


def path_of(opened: int) -> Path:
    return Path(f"/proc/self/fd/{opened}").readlink()


async def test_a_file_is_nobody_elses_to_read(tmp_path: Path) -> None:
    store = open_store((tmp_path / "files").as_uri())
    await stored(store, "1001/a", b"x")
    assert not any(path.stat().st_mode & 0o007 for path in everything(tmp_path))


async def test_the_location_names_the_file(store: Store, tmp_path: Path) -> None:
    location = store.location("1001/a-b")
    assert location.endswith("/1001/a-b")
    assert location.startswith(f"file://{tmp_path}/files/" if store.folder else "s3://")


async def test_an_address_of_a_bucket_needs_no_key_and_one_of_a_folder_is_none(store: Store) -> None:
    await stored(store, "1001/a", b"content")
    address = await store.signed_url("1001/a", 60)
    if store.folder:
        assert address is None
        return
    assert address
    async with httpx.AsyncClient(trust_env=False) as anybody:
        assert (await anybody.get(address)).content == b"content"
        assert (await anybody.get(address.replace("1001/a", "1001/b"))).status_code == 403


@pytest.mark.parametrize(
    ("status", "error"), [(500, StoreFailed), (403, StoreFailed), (507, StorageFull), (404, NotStored)]
)
async def test_troubles_of_a_bucket_are_told_in_our_words(
    monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]
) -> None:
    async with serving(always(answer(status))) as server:
        S3(server.url).be_known(monkeypatch)
        with pytest.raises(error):
            await open_store("s3://bucket").size("a")
