"""What an answer says to somebody who waits: which version it is, and when to look again."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import Header

from app.exports.models import Status
from app.exports.reading import ExportView
from app.exports.states import FINAL

SOONEST, LATEST = 5, 60

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="An `ETag` seen before.")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Unchanged since the version of `If-None-Match`."}
}


def etag_of(view: ExportView) -> str:
    """An entity tag that changes with all that a caller waits to see (RFC 9110, section 8.8.3).

    Place and reason move without a change of the export itself.
    """
    if view.ahead is None:
        return f'W/"v{view.export.version}"'
    return f'W/"v{view.export.version}-{view.ahead}-{view.wait_reason or "next"}"'


def is_current(seen: str | None, view: ExportView) -> bool:
    """Whether `If-None-Match` names the export as it is now."""
    return matches(seen, etag_of(view))


def matches(seen: str | None, etag: str) -> bool:
    """Whether a list of entity tags holds one, by weak comparison (RFC 9110, section 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in (seen or "").split(",")}
    return etag.removeprefix("W/") in tags or "*" in tags


def retry_after(view: ExportView, now: datetime) -> int | None:
    """Seconds until looking again is worth it: a tenth of the time it has taken so far; None at the end."""
    export = view.export
    if export.status in FINAL:
        return None
    if export.status is Status.ARCHIVING:
        return SOONEST
    since = export.created_at if export.status is Status.QUEUED else export.started_at or export.created_at
    return round(min(max((now - since).total_seconds() / 10, SOONEST), LATEST))
