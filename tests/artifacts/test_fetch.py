"""Fetching: from where, what is refused, and that nothing unverified becomes visible."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.artifacts.fetch import DownloadPolicy, Gone, Interrupted, UrlExpired, UrlNotAllowed, fetched
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
        store, verifier = open_store(folder.as_uri()), Verifier(LIMITS)
        async with fetched(http, f"{server.url}/f?sig=x", store, "a", LOCAL, verifier) as (writer, verified):
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
