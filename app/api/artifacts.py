"""The archived files."""

from base64 import b64encode
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Header, Request, Response, status
from fastapi.responses import RedirectResponse, StreamingResponse

from app.api.auth import ArtifactsReader
from app.api.conditions import Validators, http_date, prefers
from app.api.head import IS_HEAD
from app.api.ids import ArtifactIdPath
from app.api.problems import ON_CALL, problems
from app.api.services import Services, ServicesOf
from app.artifacts.models import LINES_MEDIA_TYPE, MEDIA_TYPE, Artifact, ArtifactState
from app.artifacts.store import NotStored, StoredFile, StoreFailed
from app.artifacts.views import unpacked
from app.exports.models import Run
from app.exports.reading import visible_artifact
from app.problems import Code, ProblemError
from app.settings import Delivery

SIGNED_SECONDS = 300.0

log = structlog.get_logger()

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file as it is stored: JSON Lines, compressed by gzip; or unpacked, where that is "
        "what `Accept` wants.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in (MEDIA_TYPE, LINES_MEDIA_TYPE)
        },
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "Named by the SHA-256 of the file."},
            "Repr-Digest": {"schema": {"type": "string"}, "description": "Its SHA-256 (RFC 9530)."},
            "Sunset": {"schema": {"type": "string"}, "description": "When it expires (RFC 8594)."},
            "Content-Length": {"schema": {"type": "integer"}},
        },
    },
    206: {"description": "The part that `Range` wants.", "content": {MEDIA_TYPE: {}}},
    304: {"description": "The caller has it already, by `If-None-Match` or `If-Modified-Since`."},
    307: {"description": "The store itself gives it, at an address good for minutes, without a key."},
}
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


@router.get(
    "/{artifact_id}/content",
    response_class=StreamingResponse,
    responses=CONTENT
    | problems(
        *ON_CALL,
        Code.ARTIFACT_EXPIRED,
        Code.ARTIFACT_MISSING,
        Code.STORE_UNAVAILABLE,
        Code.PRECONDITION_FAILED,
        Code.RANGE_NOT_SATISFIABLE,
    ),
    openapi_extra=PARAMETERS,
)
async def get_artifact_content(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    services: ServicesOf,
    request: Request,
    accept: Annotated[str, Header(description=f"`{LINES_MEDIA_TYPE}` to have it unpacked.")] = MEDIA_TYPE,
) -> Response:
    """Download the file of a succeeded export.

    What is sent are the stored bytes, without a Content-Encoding: they are the ones `sha256` and `bytes` of
    the export's artifact speak of, and a download that broke off goes on by `Range` and `If-Range`. Unpacked,
    it is sent as a whole only.
    """
    async with services.sessions() as session:
        artifact, run = await visible_artifact(session, client, artifact_id)
    _check_kept(services, artifact)
    lines = prefers(accept, LINES_MEDIA_TYPE, to=MEDIA_TYPE)
    headers = _headers(artifact, run, lines=lines)
    found = Validators(headers["ETag"], artifact.created_at)
    if found.unchanged(request.headers):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=_without_content(headers))
    is_head = bool(request.scope.get(IS_HEAD))
    part = None if lines or is_head else found.part(request.headers, artifact.bytes)
    if not lines and not is_head and (address := await _signed(services, artifact)):
        return RedirectResponse(address, headers={"Cache-Control": "no-store"})
    if part:
        start, end = part
        headers |= {
            "Content-Range": f"bytes {start}-{end - 1}/{artifact.bytes}",
            "Content-Length": str(end - start),
        }
    file = await _open(services, artifact, part)
    if is_head:
        return Response(headers=headers)
    chunks = unpacked(file.chunks()) if lines else file.chunks()
    return StreamingResponse(
        chunks, status.HTTP_206_PARTIAL_CONTENT if part else status.HTTP_200_OK, headers=headers
    )


def _check_kept(services: Services, artifact: Artifact) -> None:
    state = artifact.state_at(services.clock.now())
    if state not in {ArtifactState.AVAILABLE, ArtifactState.EXPIRING}:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact.id} is {state}.")


def _headers(artifact: Artifact, run: Run, *, lines: bool) -> dict[str, str]:
    """What is said of the file, or of the lines in it."""
    name = _file_name(artifact, run)
    common = {
        "Last-Modified": http_date(artifact.created_at),
        "Cache-Control": "private, no-cache",
        "Vary": "Accept",
        "Sunset": http_date(artifact.expires_at),
        "X-Content-Type-Options": "nosniff",
    }
    if lines:
        return common | {
            "ETag": f'"sha256-{artifact.sha256}-lines"',
            "Accept-Ranges": "none",
            "Content-Type": LINES_MEDIA_TYPE,
            "Content-Length": str(artifact.uncompressed_bytes),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
    digest = b64encode(bytes.fromhex(artifact.sha256)).decode()
    return common | {
        "ETag": f'"sha256-{artifact.sha256}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{digest}:",
        "Content-Type": MEDIA_TYPE,
        "Content-Length": str(artifact.bytes),
        "Content-Disposition": f'attachment; filename="{name}.gz"',
    }


def _without_content(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.startswith("Content-")}


async def _signed(services: Services, artifact: Artifact) -> str | None:
    if services.settings.delivery is not Delivery.REDIRECT:
        return None
    return await services.store.signed_url(artifact.key, SIGNED_SECONDS)


async def _open(services: Services, artifact: Artifact, part: tuple[int, int] | None) -> StoredFile:
    start, end = part or (0, None)
    try:
        file = await services.store.open(artifact.key, start, end)
    except StoreFailed as error:
        log.warning("artifact.unreadable", artifact=artifact.id, error=str(error))
        raise ProblemError(Code.STORE_UNAVAILABLE, "The store does not answer.", retry_after=5) from None
    except NotStored:
        detail = f"The store has no file {artifact.key}."
        raise ProblemError(Code.ARTIFACT_MISSING, detail) from None
    if file.size != artifact.bytes:
        detail = f"The stored file {artifact.key} has {file.size} bytes instead of {artifact.bytes}."
        raise ProblemError(Code.ARTIFACT_MISSING, detail)
    return file


def _file_name(artifact: Artifact, run: Run) -> str:
    made = artifact.created_at.strftime("%Y%m%dT%H%M%SZ")
    return f"asana-{run.workspace}-{run.kind}-{made}-{artifact.id}.jsonl"
