"""Visible means whole; anything else leaves no trace."""

import os
import resource
from pathlib import Path

import pytest

from app.artifacts.store import LocalStore, NotStored, StorageFull


async def stored(store: LocalStore, key: str, content: bytes) -> None:
    async with store.writer(key) as writer:
        await writer.write(content)
        await writer.publish()


async def read(store: LocalStore, key: str) -> bytes:
    file = await store.open(key)
    return b"".join([piece async for piece in file.chunks()])


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_a_file_appears_whole_and_only_when_published(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    async with store.writer("1001/a.gz") as writer:
        await writer.write(b"one ")
        await writer.write(b"two")
        with pytest.raises(NotStored):
            await store.open("1001/a.gz")
        await writer.publish()
    assert await read(store, "1001/a.gz") == b"one two"
    assert files(tmp_path) == ["1001/a.gz"]


async def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    async def break_off() -> None:
        async with LocalStore(tmp_path).writer("a") as writer:
            await writer.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert files(tmp_path) == []


async def test_reading_goes_on_though_the_file_is_deleted(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await stored(store, "a", b"x" * 1_000_000)
    file = await store.open("a")
    await store.delete("a")
    await store.delete("a")
    assert sum([len(piece) async for piece in file.chunks()]) == file.size == 1_000_000


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".hidden", "a/", "a\n", "a\\b", "ä"]
)
async def test_a_key_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path)
    with pytest.raises(ValueError, match="not a key"):
        await store.open(key)


async def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the end of the disk: the kernel refuses the same write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageFull):
            await stored(LocalStore(tmp_path), "a", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []


async def test_the_location_is_a_url_of_the_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    await stored(store, "1001/a b".replace(" ", "-"), b"")
    assert store.location("1001/a-b") == f"file://{os.fspath(tmp_path)}/1001/a-b"
