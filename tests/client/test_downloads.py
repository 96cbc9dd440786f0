"""Files and their records: gone on with when they break off, and never taken for whole when they are not."""

import gzip
import hashlib
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asana_exports_client import AsyncClient, Damaged, Export, Filters, Task, Unreachable
from asana_exports_client._records import Lines
from asana_exports_client.models import Artifact
from tests.client.conftest import ClientAt
from tests.client.relay import relay, unchanged
from tests.servers import Request, always, answer, serving

EVER = datetime(2000, 1, 1, tzinfo=UTC)
# Each task fits both filters.
TWICE = [Task(filters=Filters(modified_at_after=EVER)), Task(filters=Filters(created_at_after=EVER))]


@pytest.fixture
async def done(client: AsyncClient) -> Export:
    """An export whose tasks all come twice."""
    return (await client.run("1001", TWICE, timeout=120)).export


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty one."""
    return tmp_path_factory.mktemp("downloads")


def artifact_of(export: Export) -> Artifact:
    assert export.artifact
    return export.artifact


def assert_whole(path: Path, export: Export) -> None:
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == artifact_of(export).sha256
    assert names(path.parent) == [path.name]


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def ranges(requests: list[Request]) -> list[str | None]:
    return [request.headers.get("range") for request in requests]


async def test_a_download_that_breaks_off_goes_on(
    api: str, done: Export, client_at: ClientAt, folder: Path
) -> None:
    told: list[tuple[int, int]] = []
    async with relay(api, lambda _, whole, number: 1000 if number < 3 else whole) as between:
        client = client_at(between.url)
        path = await client.download(done, folder / "file", lambda *so_far: told.append(so_far))
        assert ranges(between.requests) == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
        assert between.requests[1].headers["if-range"] == f'"sha256-{artifact_of(done).sha256}"'
    assert_whole(path, done)
    assert told == sorted(told)
    assert told[-1] == (artifact_of(done).bytes, artifact_of(done).bytes)


async def test_a_download_of_an_earlier_process_goes_on(
    api: str, done: Export, client: AsyncClient, client_at: ClientAt, folder: Path
) -> None:
    content = (await client.download(done, folder / "whole")).read_bytes()
    (folder / "whole").unlink()
    (folder / "file.part").write_bytes(content[:700])
    async with relay(api, unchanged) as between:
        path = await client_at(between.url).download(artifact_of(done), folder / "file")
        assert ranges(between.requests) == ["bytes=700-"]
    assert_whole(path, done)
    path.rename(folder / "again.part")
    async with relay(api, unchanged) as between:
        path = await client_at(between.url).download(done, folder / "again")
        assert between.requests == []
    assert_whole(path, done)


async def test_what_is_there_of_another_file_is_no_part_of_it(
    client: AsyncClient, done: Export, folder: Path
) -> None:
    for size in 10, artifact_of(done).bytes, 100_000_000:
        (folder / "file.part").write_bytes(bytes(size))
        path = await client.download(done, folder / "file")
        assert_whole(path, done)
        path.unlink()


def spoilt(_: Request, whole: httpx.Response, __: int) -> httpx.Response:
    content = whole.content[:-1] + bytes([whole.content[-1] ^ 1])
    return httpx.Response(whole.status_code, headers=whole.headers, content=content)


def cut_short(_: Request, whole: httpx.Response, __: int) -> httpx.Response:
    """As by something in between that takes the end for the end."""
    return httpx.Response(whole.status_code, content=whole.content[:1000])


def two_files(_: Request, whole: httpx.Response, __: int) -> httpx.Response:
    return httpx.Response(whole.status_code, content=whole.content + gzip.compress(b'{"gid":"1"}\n'))


async def test_a_file_that_is_not_the_verified_one_is_not_left_behind(
    api: str, done: Export, client_at: ClientAt, folder: Path
) -> None:
    for change in spoilt, cut_short, two_files:
        async with relay(api, change) as between:
            client = client_at(between.url)
            with pytest.raises(Damaged):
                await client.download(done, folder / "file")
            assert not any(names(folder))
            with pytest.raises(Damaged):
                _ = [record async for record in client.records(done)]


async def test_records_that_break_off_go_on(
    api: str, done: Export, client: AsyncClient, client_at: ClientAt
) -> None:
    whole = [record["gid"] async for record in client.records(done)]
    once = [record["gid"] async for record in client.records(done, dedupe=True)]
    assert once == list(dict.fromkeys(whole))
    assert len(once) < len(whole) == artifact_of(done).lines
    async with relay(api, lambda _, told, number: told if number % 3 == 2 else 1500) as between:
        distant = client_at(between.url)
        assert [record["gid"] async for record in distant.records(done)] == whole
        assert ranges(between.requests) == [None, "bytes=1500-", "bytes=3000-"]
        assert [record["gid"] async for record in distant.records(done, dedupe=True)] == once


async def test_a_download_that_never_gets_on_ends(
    api: str, done: Export, client_at: ClientAt, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for face in "_async", "_sync":
        monkeypatch.setattr(f"asana_exports_client.{face}.content.FIRST_PAUSE", 0)
    async with relay(api, lambda *_: 0) as between:
        with pytest.raises(Unreachable, match="breaks off at byte 0"):
            await client_at(between.url).download(done, folder / "file")
        assert len(between.requests) == 6


async def test_the_key_is_not_sent_to_the_store(
    api: str, done: Export, client: AsyncClient, client_at: ClientAt, folder: Path
) -> None:
    content = (await client.download(done, folder / "file")).read_bytes()
    async with serving(always(answer(200, content))) as store:
        elsewhere = answer(307, Location=f"{store.url}/signed?by=the-service")
        async with serving(always(elsewhere)) as between:
            client = client_at(between.url)
            assert_whole(await client.download(done, folder / "file"), done)
            assert len([record async for record in client.records(done)]) == artifact_of(done).lines
            assert all("authorization" in request.headers for request in between.requests)
    assert len(store.requests) == 2
    assert not any("authorization" in request.headers for request in store.requests)


async def test_a_folder_is_no_place_for_a_file(client: AsyncClient, done: Export, folder: Path) -> None:
    with pytest.raises(IsADirectoryError):
        await client.download(done, folder)


JSON_LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda line: line.hex().encode()), max_size=20)


@given(st.lists(JSON_LINES, min_size=1, max_size=3), st.integers(1, 50), st.booleans())
def test_lines_are_the_same_however_they_come(members: list[list[bytes]], size: int, ended: bool) -> None:
    """In any number of gzip members, cut anywhere, the last line with its end or without."""
    texts = [b"".join(line + b"\n" for line in lines) for lines in members]
    texts[-1] = texts[-1] if ended else texts[-1].removesuffix(b"\n")
    file = b"".join(map(gzip.compress, texts))
    reader = Lines(None)
    found = [line for at in range(0, len(file), size) for line in reader.of(file[at : at + size])]
    found += reader.end()
    assert found == [line for lines in members for line in lines]
    assert reader.count == len(found)


@given(st.integers(0, 10_000))
def test_a_file_that_ends_early_is_never_whole(cut: int) -> None:
    file = gzip.compress(b'{"gid":"1"}\n' * 100)
    reader = Lines(None)
    with pytest.raises(Damaged):
        _ = [*reader.of(file[: cut % len(file)]), *reader.end()]


def test_lines_of_a_large_file_need_little_memory() -> None:
    line = b"x" * 1000
    file = gzip.compress((line + b"\n") * 100_000)
    reader = Lines(None)
    tracemalloc.start()
    try:
        count = sum(1 for at in range(0, len(file), 65_536) for _ in reader.of(file[at : at + 65_536]))
        count += sum(1 for _ in reader.end())
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert most < 10_000_000
