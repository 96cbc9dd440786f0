"""What an answer says to somebody who waits: which version it is, and when to look again."""

import re
from typing import Annotated, Any

from fastapi import Depends, Header

from app.exports.estimates import Estimate
from app.exports.models import Status
from app.exports.reading import ExportView
from app.exports.states import FINAL

SOONEST, LATEST = 5, 60

LONGEST_WAIT = 50
WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?([0-9]{1,6})\"?(?=$|[,;\s])", re.IGNORECASE)

IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", description="An `ETag` seen before.")]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "Unchanged since the version of `If-None-Match`."}
}


async def wait_seconds(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=N` (RFC 7240) lets the answer wait for news, {LONGEST_WAIT} seconds at most.",
            examples=["wait=30"],
        ),
    ] = None,
) -> int | None:
    """The seconds of `Prefer: wait`; a preference that is not understood is none (RFC 7240, section 2)."""
    found = WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT) if found else None


WaitSeconds = Annotated[int | None, Depends(wait_seconds)]


def etag_of(view: ExportView) -> str:
    """An entity tag that changes with all that a caller waits to see (RFC 9110, section 8.8.3).

    Place and reason move without a change of the export itself, as does what becomes of its file.
    """
    if view.artifact:
        file = "held" if view.artifact.held_at else view.artifact_state
        return f'W/"v{view.export.version}-{file}-{view.artifact.expires_at.timestamp():.0f}"'
    if view.ahead is None:
        return f'W/"v{view.export.version}"'
    return f'W/"v{view.export.version}-{view.ahead}-{view.wait_reason or "next"}"'


def matches(seen: str | None, etag: str) -> bool:
    """Whether a list of entity tags holds one, by weak comparison (RFC 9110, section 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in (seen or "").split(",")}
    return etag.removeprefix("W/") in tags or "*" in tags


def retry_after(view: ExportView, estimate: Estimate | None) -> int | None:
    """Seconds until looking again is worth it: a tenth of the time until it starts, or without an estimate of
    the time it has taken so far; None at the end."""
    export = view.export
    if export.status in FINAL:
        return None
    if export.status is Status.ARCHIVING:
        return SOONEST
    if export.status is Status.QUEUED:
        ahead = estimate.start_p50 - view.now if estimate and estimate.start_p50 else None
        span = view.now - export.created_at if ahead is None else ahead
    else:
        span = view.now - (export.started_at or export.created_at)
    return round(min(max(span.total_seconds() / 10, SOONEST), LATEST))
