"""Fetching: from where, what is refused, and that nothing unverified becomes visible."""

import asyncio
import gzip
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.artifacts.fetch import (
    MOST_TRIES,
    SEGMENT,
    Changed,
    Download,
    DownloadPolicy,
    Gone,
    Interrupted,
    UrlExpired,
    UrlNotAllowed,
    fetched,
)
from app.artifacts.store import open_store
from app.artifacts.verify import Corrupt, Limits, Verified, Verifier
from tests.servers import Handler, Request, always, answer, serving

LOCAL = DownloadPolicy(("127.0.0.1",), allow_http=True)
FILE = gzip.compress(b'{"resource_type":"task"}\n' * 1000)
LIMITS = Limits(1 << 20, 1 << 30)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=2) as client:
        yield client


async def kept(http: httpx.AsyncClient, folder: Path, handler: Handler) -> Verified:
    async with serving(handler) as server:
        return await kept_from(http, folder, server.url)


async def kept_from(http: httpx.AsyncClient, folder: Path, *urls: str) -> Verified:
    """From the first of these servers; each next one is where a fresh address leads."""
    left = iter(urls)

    async def address() -> str:
        return f"{next(left)}/f?sig=x"

    async def pause(_: int, __: float) -> None:
        pass

    store, verifier = open_store(folder.as_uri()), Verifier(LIMITS)
    async with fetched(Download(http, LOCAL, address, pause), store, "a", verifier) as (writer, verified):
        await writer.publish()
        return verified


def visible(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_whole_file_is_kept_as_it_came(http: httpx.AsyncClient, tmp_path: Path) -> None:
    found = await kept(http, tmp_path, always(answer(200, FILE)))
    assert found.by_type == {"task": 1000}
    assert [path.read_bytes() for path in visible(tmp_path)] == [FILE]


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (answer(403, b"<Error/>"), UrlExpired),
        (answer(400), UrlExpired),
        (answer(404), Gone),
        (answer(410), Gone),
        (answer(500), Interrupted),
        (answer(503, Retry_After="7"), Interrupted),
        (answer(200, FILE[:100], length=len(FILE)), Interrupted),
        (answer(200, FILE[:100]), Corrupt),
        (answer(200, b"<html>sign in</html>"), Corrupt),
        (answer(302, Location="http://127.0.0.2:9/latest"), UrlNotAllowed),
        (answer(302, Location="file:///etc/passwd"), UrlNotAllowed),
        (answer(302, Location="/again"), Interrupted),
        (answer(302, Location="http://["), UrlNotAllowed),
    ],
)
async def test_anything_else_leaves_nothing(
    http: httpx.AsyncClient, tmp_path: Path, response: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        await kept(http, tmp_path, always(response))
    assert visible(tmp_path) == []
    if b"Retry-After" in response:
        assert isinstance(raised.value, Interrupted)
        assert raised.value.retry_after == 7


async def test_no_token_goes_along_and_redirects_to_good_hosts_are_followed(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        assert "authorization" not in request.headers
        writer.write(answer(200, FILE) if request.path == "/there" else answer(302, Location="/there"))

    assert (await kept(http, tmp_path, handle)).lines == 1000


AMAZON = DownloadPolicy(("*.amazonaws.com", "files.example"))


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.s3.us-east-1.amazonaws.com/x?X-Amz-Expires=300",
        "https://BUCKET.S3.AMAZONAWS.COM/x",
        "https://files.example/x",
    ],
)
def test_these_addresses_are_fetched_from(url: str) -> None:
    AMAZON.check(httpx.URL(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://bucket.s3.amazonaws.com/x",
        "https://amazonaws.com/x",
        "https://amazonaws.com.evil.example/x",
        "https://evilamazonaws.com/x",
        "https://user:pw@bucket.amazonaws.com/x",
        "https://evil.example/bucket.amazonaws.com",
        "https://evil.example#.amazonaws.com",
        "https://127.0.0.1/x",
        "https://[::1]/x",
        "https://2130706433/x",
        "ftp://bucket.amazonaws.com/x",
        "file:///etc/passwd",
        "/relative",
    ],
)
def test_these_addresses_are_not(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        AMAZON.check(httpx.URL(url))


LARGE = gzip.compress(b'{"notes":"%s"}\n' * 30_000 % ((b"x" * 900,) * 30_000), 0)
STARTS = [*range(0, len(LARGE), SEGMENT)]


@dataclass
class RangeServer:
    """Sends parts of a file, as stores do; `deviate` may answer otherwise, by the first byte wanted."""

    content: bytes = LARGE
    etag: str = '"a"'
    deviate: Callable[[int, int], bytes | None] = lambda start, times: None
    asked: Counter[int] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        start, end = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        self.asked[start] += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        writer.write(self.deviate(start, self.asked[start]) or self.part(request, start, end + 1))
        await writer.drain()
        self.at_once -= 1

    def part(self, request: Request, start: int, end: int) -> bytes:
        if request.headers.get("if-range", self.etag) != self.etag:
            return answer(200, self.content, ETag=self.etag)
        body = self.content[start:end]
        where = f"bytes {start}-{start + len(body) - 1}/{len(self.content)}"
        return answer(206, body, ETag=self.etag, Content_Range=where)


async def test_a_large_file_is_fetched_by_several_parts_at_once(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    server = RangeServer()
    found = await kept(http, tmp_path, server)
    assert (found.lines, found.bytes) == (30_000, len(LARGE))
    assert [path.read_bytes() for path in visible(tmp_path)] == [LARGE]
    assert server.asked == Counter(STARTS)
    assert len(STARTS) > 3
    assert server.most_at_once > 1


@pytest.mark.parametrize(
    "trouble", [answer(206, b"x" * 100, length=SEGMENT), answer(500), answer(503, Retry_After="1"), b""]
)
async def test_only_the_part_that_was_cut_is_fetched_again(
    http: httpx.AsyncClient, tmp_path: Path, trouble: bytes
) -> None:
    def cut(start: int, times: int) -> bytes | None:
        return (trouble or b"HTTP/1.1") if start == STARTS[2] and times < MOST_TRIES else None

    server = RangeServer(deviate=cut)
    assert (await kept(http, tmp_path, server)).lines == 30_000
    assert server.asked == Counter(STARTS) + Counter({STARTS[2]: MOST_TRIES - 1})


async def test_an_address_that_expires_on_the_way_is_renewed_once(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    old = RangeServer(deviate=lambda start, _: answer(403) if start else None)
    fresh = RangeServer()
    async with serving(old) as first, serving(fresh) as second:
        assert (await kept_from(http, tmp_path, first.url, second.url)).lines == 30_000
    assert fresh.asked == Counter(STARTS[1:])


@pytest.mark.parametrize(
    "other", [RangeServer(etag='"b"'), RangeServer(LARGE + FILE), RangeServer(LARGE + FILE, etag='W/"a"')]
)
async def test_parts_of_two_files_are_not_put_together(
    http: httpx.AsyncClient, tmp_path: Path, other: RangeServer
) -> None:
    old = RangeServer(etag=other.etag if other.etag.startswith("W/") else '"a"')
    old.deviate = lambda start, _: answer(403) if start else None
    async with serving(old) as first, serving(other) as second:
        with pytest.raises(Changed):
            await kept_from(http, tmp_path, first.url, second.url)
    assert visible(tmp_path) == []


async def test_a_segment_of_another_place_is_not_taken(http: httpx.AsyncClient, tmp_path: Path) -> None:
    server = RangeServer()

    def shifted(start: int, _: int) -> bytes | None:
        if start != STARTS[1]:
            return None
        body = LARGE[start + 1 : start + 1 + SEGMENT]
        where = f"bytes {start + 1}-{start + SEGMENT}/{len(LARGE)}"
        return answer(206, body, ETag=server.etag, Content_Range=where)

    server.deviate = shifted
    with pytest.raises(Interrupted, match="another part"):
        await kept(http, tmp_path, server)
    assert server.asked[STARTS[1]] == MOST_TRIES


async def test_a_file_without_a_byte_is_corrupt(http: httpx.AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="empty"):
        await kept(http, tmp_path, always(answer(416, Content_Range="bytes */0")))


async def test_memory_does_not_grow_with_the_file(http: httpx.AsyncClient, tmp_path: Path) -> None:
    member = gzip.compress(b'{"resource_type":"task","notes":"' + b"x" * 900 + b'"}\n' * 1, 0) * 500

    async def handle(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(200, b"", length=len(member) * 200))
        for _member in range(200):
            writer.write(member)
            await writer.drain()

    tracemalloc.start()
    found = await kept(http, tmp_path, handle)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.bytes == len(member) * 200 > 90_000_000
    assert peak < 25_000_000


async def test_memory_is_bounded_by_the_parts_under_way(http: httpx.AsyncClient, tmp_path: Path) -> None:
    """Of an answer that goes on for ever, no more is read than was asked for."""
    server = RangeServer()

    def endless(start: int, _: int) -> bytes | None:
        where = f"bytes {start}-{start + SEGMENT - 1}/{len(LARGE)}"
        return answer(206, bytes(20 * SEGMENT), ETag=server.etag, Content_Range=where) if start else None

    server.deviate = endless
    with pytest.raises(Interrupted, match="instead of"):
        await kept(http, tmp_path, server)
