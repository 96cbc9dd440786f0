"""Fetching a file from where Asana put it: the address checked, the content verified, then kept."""

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urljoin

import httpx

from app.artifacts.store import Store, Writer
from app.artifacts.verify import Verified, Verifier
from app.retry_after import retry_after

BATCH = 1 << 20
# So much is asked for at a time, and lost when a connection breaks.
SEGMENT, AT_ONCE = 8 << 20, 4
MOST_TRIES = 4
CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", re.ASCII)
MOST_REDIRECTS = 3


class UrlNotAllowed(Exception):
    """The address is not one we fetch from."""


class UrlExpired(Exception):
    """The address is no longer valid; the job gives a fresh one."""


class Gone(Exception):
    """The file is no longer there."""


class Interrupted(Exception):
    """The transfer did not finish; it may be tried again, after `retry_after` seconds if that is set."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Changed(Interrupted):
    """The file has become another one while it was fetched; it is to be fetched from the beginning."""


@dataclass(frozen=True)
class DownloadPolicy:
    """Where files may be fetched from: hosts (`*.` for any subdomain), and whether by plain http too."""

    hosts: tuple[str, ...]
    allow_http: bool = False

    def check(self, url: httpx.URL) -> None:
        """Raises `UrlNotAllowed`. Names are compared, so that no other spelling of an address passes."""
        schemes = {"https", "http"} if self.allow_http else {"https"}
        if url.scheme not in schemes:
            raise UrlNotAllowed(f"scheme {url.scheme!r} is not allowed")
        if url.userinfo:
            raise UrlNotAllowed("an address with a user name is not allowed")
        if not any(fnmatchcase(url.host, host) for host in self.hosts):
            raise UrlNotAllowed(f"host {url.host!r} is not allowed")


@dataclass(frozen=True)
class Version:
    """What tells one state of a file from another; its size in bytes."""

    etag: str | None
    modified: str | None
    size: int


class Download:
    """A file to be fetched by ranges, several at a time, or in one go from a server that knows none.

    `address` gives its URL, anew when that has expired; `pause` waits before the next try of so many, and so
    many seconds at least. Memory is bounded by the segments under way.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        policy: DownloadPolicy,
        address: Callable[[], Awaitable[str]],
        pause: Callable[[int, float], Awaitable[None]],
    ) -> None:
        self._http = http
        self._policy = policy
        self._address = address
        self._pause = pause
        self._url = ""
        self._renewing = asyncio.Lock()

    async def content(self) -> AsyncGenerator[bytes]:
        """Its bytes in order. What is cut is asked for again; a file that is not the same any more is not
        put together. Raises `UrlNotAllowed`, `UrlExpired`, `Gone`, `Interrupted`, or what `address` raises.
        """
        self._url = await self._address()
        async with self._answer(0) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                # An empty file has no first byte.
                return
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                async for batch in response.aiter_raw(BATCH):
                    yield batch
                return
            _, version = _part(response)
            yield await _body(response, 0, version)
        ahead = deque[asyncio.Task[bytes]]()
        try:
            for start in range(SEGMENT, version.size, SEGMENT):
                ahead.append(asyncio.create_task(self._segment(start, version), name=f"segment {start}"))
                if len(ahead) == AT_ONCE:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _segment(self, start: int, version: Version) -> bytes:
        """Some bytes of the file, asked for a few times."""
        tries = 0
        while True:
            url = self._url
            try:
                async with self._answer(start, version) as response:
                    return await _body(response, start, version)
            except Changed:
                raise
            except (httpx.HTTPError, Interrupted, UrlExpired) as error:
                tries += 1
                if tries == MOST_TRIES:
                    raise
                if isinstance(error, UrlExpired):
                    await self._renew(url)
                least = getattr(error, "retry_after", None) or 0.0
            await self._pause(tries - 1, least)

    async def _renew(self, expired: str) -> None:
        async with self._renewing:
            # Several segments may have met it.
            if self._url == expired:
                self._url = await self._address()

    @asynccontextmanager
    async def _answer(self, start: int, version: Version | None = None) -> AsyncIterator[httpx.Response]:
        """To the request for a segment; redirects are followed by hand, each checked like the first."""
        address = _parsed(self._url)
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{start + SEGMENT - 1}"}
        if version and version.etag:
            headers["If-Range"] = version.etag
        for _ in range(MOST_REDIRECTS + 1):
            self._policy.check(address)
            async with self._http.stream("GET", address, headers=headers, follow_redirects=False) as response:
                if not response.has_redirect_location:
                    _check_status(response)
                    yield response
                    return
                address = _parsed(response.headers["Location"], address)
        raise Interrupted("too many redirects")


@asynccontextmanager
async def fetched(
    download: Download, store: Store, key: str, verifier: Verifier
) -> AsyncIterator[tuple[Writer, Verified]]:
    """The file, written for `key` at constant memory and verified; unless the caller publishes it, nothing of
    it remains.

    Raises what `Download.content` raises, `Corrupt`, `TooLarge`, `StorageFull` or `StoreFailed`.
    """
    async with store.writer(key) as writer:
        try:
            async with aclosing(download.content()) as content:
                async for batch in content:
                    await asyncio.gather(asyncio.to_thread(verifier.feed, batch), writer.write(batch))
        except httpx.HTTPError as error:
            raise Interrupted(f"the transfer broke off: {type(error).__name__} {error}".strip()) from None
        yield writer, await asyncio.to_thread(verifier.finish)


def _part(response: httpx.Response) -> tuple[int, Version]:
    """The first byte of an answer with a part, and of what file it is. Raises `Interrupted` for one that does
    not tell."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not found:
        raise Interrupted("the file's server does not tell which part it sends")
    etag = response.headers.get("ETag")
    strong = etag if etag and not etag.startswith("W/") else None
    return int(found[1]), Version(strong, response.headers.get("Last-Modified"), int(found[2]))


async def _body(response: httpx.Response, start: int, version: Version) -> bytes:
    """The whole segment from `start` on. Raises `Changed` or `Interrupted`."""
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        raise Changed("the file's server sends another one than was begun with")
    first, found = _part(response)
    if found != version:
        raise Changed("the file is not the one that was begun with")
    length = min(SEGMENT, version.size - start)
    if first != start:
        raise Interrupted("the file's server sends another part than it was asked for")
    body = bytearray()
    async for batch in response.aiter_raw(BATCH):
        body += batch
        if len(body) > length:
            break
    if len(body) != length:
        raise Interrupted(f"the file's server sends {len(body)} bytes instead of {length}")
    return bytes(body)


def _parsed(url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        return httpx.URL(urljoin(str(base or ""), url))
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlNotAllowed(f"it is no address: {error}") from None


def _check_status(response: httpx.Response) -> None:
    match response.status_code:
        case 200 | 206 | 416:
            return
        case 400 | 401 | 403:
            # What object stores answer to an address past its time.
            raise UrlExpired(f"the file's server answered {response.status_code}")
        case 404 | 410:
            raise Gone(f"the file's server answered {response.status_code}")
        case status:
            raise Interrupted(
                f"the file's server answered {status}", retry_after=retry_after(response.headers)
            )
