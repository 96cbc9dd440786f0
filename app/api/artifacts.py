"""The archived files."""

from typing import Any

from fastapi import APIRouter, Request, Response, status
from fastapi.responses import StreamingResponse

from app.api.auth import ArtifactsReader
from app.api.head import IS_HEAD
from app.api.ids import ArtifactIdPath
from app.api.problems import ON_CALL, problems
from app.api.services import Services, ServicesOf
from app.api.waiting import NOT_MODIFIED, IfNoneMatch, matches
from app.artifacts.models import MEDIA_TYPE, Artifact, ArtifactState
from app.artifacts.store import NotStored, StoredFile
from app.exports.models import Run
from app.exports.reading import visible_artifact
from app.problems import Code, ProblemError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file as it is stored: JSON Lines, compressed by gzip.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "Named by the SHA-256 of the bytes."},
            "Content-Length": {"schema": {"type": "integer"}},
        },
    }
}


@router.get(
    "/{artifact_id}/content",
    response_class=StreamingResponse,
    responses=CONTENT | NOT_MODIFIED | problems(*ON_CALL, Code.ARTIFACT_EXPIRED, Code.ARTIFACT_MISSING),
)
async def get_artifact_content(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    services: ServicesOf,
    request: Request,
    seen: IfNoneMatch = None,
) -> Response:
    """Download the file of a succeeded export.

    What is sent are the stored bytes, without a Content-Encoding: they are the ones `sha256` and `bytes` of
    the export's artifact speak of.
    """
    async with services.sessions() as session:
        artifact, run = await visible_artifact(session, client, artifact_id)
    state = artifact.state_at(services.clock.now())
    if state not in {ArtifactState.AVAILABLE, ArtifactState.EXPIRING}:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is {state}.")
    etag = f'"sha256-{artifact.sha256}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if matches(seen, etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    file = await _open(services, artifact)
    headers |= {
        "Content-Length": str(file.size),
        "Content-Disposition": f'attachment; filename="{_file_name(artifact, run)}"',
        "X-Content-Type-Options": "nosniff",
    }
    if request.scope.get(IS_HEAD):
        file.close()
        return Response(headers=headers, media_type=artifact.media_type)
    return StreamingResponse(file.chunks(), headers=headers, media_type=artifact.media_type)


async def _open(services: Services, artifact: Artifact) -> StoredFile:
    try:
        file = await services.store.open(artifact.key)
    except (NotStored, OSError) as error:
        detail = f"The store cannot give the file {artifact.key}: {type(error).__name__}."
        raise ProblemError(Code.ARTIFACT_MISSING, detail) from None
    if file.size != artifact.bytes:
        file.close()
        detail = f"The stored file {artifact.key} has {file.size} bytes instead of {artifact.bytes}."
        raise ProblemError(Code.ARTIFACT_MISSING, detail)
    return file


def _file_name(artifact: Artifact, run: Run) -> str:
    made = artifact.created_at.strftime("%Y%m%dT%H%M%SZ")
    return f"asana-{run.workspace}-{run.kind}-{made}-{artifact.id}.jsonl.gz"
