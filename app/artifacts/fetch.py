"""Fetching a file from where Asana put it: the address checked, the content verified, then kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urljoin

import httpx

from app.artifacts.store import Store, Writer
from app.artifacts.verify import Verified, Verifier
from app.retry_after import retry_after

BATCH = 1 << 20
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


@asynccontextmanager
async def fetched(
    http: httpx.AsyncClient, url: str, store: Store, key: str, policy: DownloadPolicy, verifier: Verifier
) -> AsyncIterator[tuple[Writer, Verified]]:
    """The file at `url`, written for `key` at constant memory and verified; unless the caller publishes it,
    nothing of it remains.

    One try. Raises `UrlNotAllowed`, `UrlExpired`, `Gone`, `Interrupted`, `Corrupt`, `TooLarge` or
    `StorageFull`.
    """
    async with store.writer(key) as writer:
        try:
            async for batch in _content(http, url, policy):
                await asyncio.gather(asyncio.to_thread(verifier.feed, batch), writer.write(batch))
        except httpx.HTTPError as error:
            raise Interrupted(f"the transfer broke off: {type(error).__name__} {error}".strip()) from None
        yield writer, await asyncio.to_thread(verifier.finish)


async def _content(http: httpx.AsyncClient, url: str, policy: DownloadPolicy) -> AsyncIterator[bytes]:
    """The body at the address, in batches; redirects are followed by hand, each checked like the first."""
    address = _parsed(url)
    for _ in range(MOST_REDIRECTS + 1):
        policy.check(address)
        async with http.stream(
            "GET", address, headers={"Accept-Encoding": "identity"}, follow_redirects=False
        ) as response:
            if response.has_redirect_location:
                address = _parsed(urljoin(str(address), response.headers["Location"]))
                continue
            _check_status(response)
            async for batch in response.aiter_raw(BATCH):
                yield batch
            return
    raise Interrupted("too many redirects")


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise UrlNotAllowed(f"it is no address: {error}") from None


def _check_status(response: httpx.Response) -> None:
    match response.status_code:
        case 200:
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
