"""Sending files of the store: whole or in part, as they are or as a view made while they are sent."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from fastapi import Request, Response, status
from fastapi.responses import RedirectResponse, StreamingResponse

from app.api.conditions import Validators, http_date
from app.api.head import IS_HEAD
from app.api.services import Services
from app.artifacts.store import NotStored, StoredFile, StoreFailed
from app.problems import Code, ProblemError
from app.settings import Delivery

SIGNED_SECONDS = 300.0

ON_CONTENT = (
    Code.ARTIFACT_EXPIRED,
    Code.ARTIFACT_MISSING,
    Code.STORE_UNAVAILABLE,
    Code.PRECONDITION_FAILED,
    Code.RANGE_NOT_SATISFIABLE,
)
BINARY = {"schema": {"type": "string", "format": "binary"}}
CONDITIONS = {
    "Range": "One part: `bytes=0-99`, `bytes=100-` or `bytes=-100` (RFC 9110, section 14).",
    "If-Range": "The `ETag` the part has to be of; of another file the whole is sent.",
    "If-Match": "The `ETag` it has to have.",
    "If-None-Match": "An `ETag` seen before.",
    "If-Modified-Since": "A date; it was made at `Last-Modified`.",
    "If-Unmodified-Since": "A date; it was made at `Last-Modified`.",
}
PARAMETERS = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": meaning,
        }
        for name, meaning in CONDITIONS.items()
    ]
}

log = structlog.get_logger()


def content_responses(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """The declared responses of a route that sends a file."""
    return {
        200: {
            "description": description,
            "content": dict.fromkeys(media_types, BINARY),
            "headers": {
                "ETag": {"schema": {"type": "string"}, "description": "Named by the SHA-256 of the file."},
                "Repr-Digest": {"schema": {"type": "string"}, "description": "Its SHA-256 (RFC 9530)."},
                "Sunset": {"schema": {"type": "string"}, "description": "When it expires (RFC 8594)."},
                "Content-Length": {"schema": {"type": "integer"}},
            },
        },
        206: {"description": "The part that `Range` wants.", "content": {media_types[0]: BINARY}},
        304: {"description": "The caller has it already, by `If-None-Match` or `If-Modified-Since`."},
        307: {"description": "The store itself gives it, at an address good for minutes, without a key."},
    }


@dataclass(frozen=True)
class Content:
    """A stored file, and what is said of it."""

    key: str
    bytes: int
    sha256: str
    media_type: str
    name: str
    made_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True)
class View:
    """What is made of a file while it is sent, as a whole only; its `size` where that is known before."""

    name: str
    media_type: str
    file_name: str
    size: int | None
    make: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]


async def send(services: Services, request: Request, content: Content) -> Response:
    """The stored bytes or a part of them, under the conditions of RFC 9110; or where to have them."""
    digest = b64encode(bytes.fromhex(content.sha256)).decode()
    headers = _headers(content, content.name, content.media_type) | {
        "ETag": f'"sha256-{content.sha256}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Length": str(content.bytes),
    }
    found = Validators(headers["ETag"], content.made_at)
    if found.unchanged(request.headers):
        return _not_modified(headers)
    if request.scope.get(IS_HEAD):
        await _check_stored(services, content)
        return Response(headers=headers)
    part = found.part(request.headers, content.bytes)
    if address := await _signed(services, request, content):
        return RedirectResponse(address, headers={"Cache-Control": "no-store"})
    file = await opened(services, content.key, content.bytes, part)
    if part is None:
        return StreamingResponse(file.chunks(), headers=headers)
    start, end = part
    headers |= {
        "Content-Range": f"bytes {start}-{end - 1}/{content.bytes}",
        "Content-Length": str(end - start),
    }
    return StreamingResponse(file.chunks(), status.HTTP_206_PARTIAL_CONTENT, headers=headers)


async def send_view(services: Services, request: Request, content: Content, view: View) -> Response:
    """A view of it, under the conditions of RFC 9110 but without parts."""
    headers = _headers(content, view.file_name, view.media_type) | {
        "ETag": f'"sha256-{content.sha256}-{view.name}"',
        "Accept-Ranges": "none",
    }
    if view.size is not None:
        headers["Content-Length"] = str(view.size)
    if Validators(headers["ETag"], content.made_at).unchanged(request.headers):
        return _not_modified(headers)
    if request.scope.get(IS_HEAD):
        await _check_stored(services, content)
        head = Response(headers=headers)
        if view.size is None:
            del head.headers["Content-Length"]
        return head
    file = await opened(services, content.key, content.bytes)
    return StreamingResponse(view.make(file.chunks()), headers=headers)


def _headers(content: Content, name: str, media_type: str) -> dict[str, str]:
    sunset = {"Sunset": http_date(content.expires_at)} if content.expires_at else {}
    return sunset | {
        "Content-Type": media_type,
        "Content-Disposition": f'attachment; filename="{name}"',
        "Last-Modified": http_date(content.made_at),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
        "X-Content-Type-Options": "nosniff",
    }


def _not_modified(headers: dict[str, str]) -> Response:
    kept = {name: value for name, value in headers.items() if not name.startswith("Content-")}
    return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=kept)


async def _signed(services: Services, request: Request, content: Content) -> str | None:
    """Not for conditions that name an entity tag: the store has tags of its own, which would not match."""
    by_tag = {"if-match", "if-range"} & {*request.headers}
    if services.settings.delivery is not Delivery.REDIRECT or by_tag:
        return None
    with _asked(content.key):
        return await services.store.signed_url(content.key, SIGNED_SECONDS)


async def opened(
    services: Services, key: str, size: int | None = None, part: tuple[int, int] | None = None
) -> StoredFile:
    """A file of the store, of that size. Raises a problem where it cannot be had."""
    start, end = part or (0, None)
    with _asked(key):
        file = await services.store.open(key, start, end)
    if size is not None:
        _check_size(key, file.size, size)
    return file


async def _check_stored(services: Services, content: Content) -> None:
    with _asked(content.key):
        found = await services.store.size(content.key)
    _check_size(content.key, found, content.bytes)


def _check_size(key: str, found: int, wanted: int) -> None:
    if found != wanted:
        detail = f"The stored file {key} has {found} bytes instead of {wanted}."
        raise ProblemError(Code.ARTIFACT_MISSING, detail)


@contextmanager
def _asked(key: str) -> Iterator[None]:
    try:
        yield
    except StoreFailed as error:
        log.warning("store.failed", key=key, error=str(error))
        raise ProblemError(Code.STORE_UNAVAILABLE, "The store does not answer.", retry_after=5) from None
    except NotStored:
        raise ProblemError(Code.ARTIFACT_MISSING, f"The store has no file {key}.") from None
