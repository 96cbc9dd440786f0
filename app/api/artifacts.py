"""The archived files."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from app.api.auth import ArtifactsReader
from app.api.problems import ON_CALL, problems
from app.api.services import ServicesOf
from app.artifacts.models import MEDIA_TYPE, Artifact, ArtifactState
from app.artifacts.store import NotStored
from app.exports.models import Run
from app.exports.reading import visible_artifact
from app.ids import ArtifactId
from app.problems import Code, ProblemError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

ArtifactIdPath = Annotated[
    str, Path(alias="artifact_id", examples=["art_01997d3c5b7d7e3f8a1b2c3d4e5f6073"], max_length=100)
]
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
    responses=CONTENT | problems(*ON_CALL, Code.ARTIFACT_EXPIRED, Code.ARTIFACT_MISSING),
)
async def get_artifact_content(
    artifact_id: ArtifactIdPath, client: ArtifactsReader, services: ServicesOf
) -> StreamingResponse:
    """Download the file of a succeeded export.

    What is sent are the stored bytes, without a Content-Encoding: they are the ones `sha256` and `bytes` of
    the export's artifact speak of.
    """
    async with services.sessions() as session:
        artifact, run = await visible_artifact(session, client, ArtifactId(artifact_id))
    if artifact.state not in {ArtifactState.AVAILABLE, ArtifactState.EXPIRING}:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is {artifact.state}.")
    try:
        file = await services.store.open(artifact.key)
    except NotStored:
        raise ProblemError(Code.ARTIFACT_MISSING, f"The store has no file {artifact.key}.") from None
    return StreamingResponse(
        file.chunks(),
        media_type=artifact.media_type,
        headers={
            "Content-Length": str(file.size),
            "ETag": f'"sha256-{artifact.sha256}"',
            "Content-Disposition": f'attachment; filename="{_file_name(artifact, run)}"',
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _file_name(artifact: Artifact, run: Run) -> str:
    made = artifact.created_at.strftime("%Y%m%dT%H%M%SZ")
    return f"asana-{run.workspace}-{run.kind}-{made}-{artifact.id}.jsonl.gz"
