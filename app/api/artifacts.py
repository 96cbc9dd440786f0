"""The archived files."""

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.auth import ArtifactsReader
from app.api.conditions import prefers
from app.api.content import ON_CONTENT, PARAMETERS, Content, View, content_responses, opened, send, send_view
from app.api.ids import ArtifactIdPath, OutputIdPath
from app.api.problems import ON_CALL, problems
from app.api.services import Services, ServicesOf
from app.artifacts.duplicates import unpacked as ordinals
from app.artifacts.duplicates import without
from app.artifacts.models import LINES_MEDIA_TYPE, MEDIA_TYPE, Artifact, OutputFile
from app.artifacts.outputs import Format
from app.artifacts.views import packed, unpacked
from app.exports.models import Run
from app.exports.outputs import visible_output
from app.exports.reading import kept_artifact
from app.problems import Code, Fault, ProblemError

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])


class Dedupe(StrEnum):
    """By what objects are the same: `gid`, together with their resource type."""

    GID = "gid"


@router.get(
    "/{artifact_id}/content",
    response_class=StreamingResponse,
    responses=content_responses(
        "The file as it is stored: JSON Lines, compressed by gzip; or unpacked, where `Accept` wants that.",
        MEDIA_TYPE,
        LINES_MEDIA_TYPE,
    )
    | problems(*ON_CALL, *ON_CONTENT),
    openapi_extra=PARAMETERS,
)
async def get_artifact_content(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    services: ServicesOf,
    request: Request,
    accept: Annotated[str, Header(description=f"`{LINES_MEDIA_TYPE}` to have it unpacked.")] = MEDIA_TYPE,
    dedupe: Annotated[
        Dedupe | None, Query(description="`gid` to have each object once, where several filters gave it.")
    ] = None,
) -> Response:
    """Download the file of a succeeded export.

    What is sent are the stored bytes, without a Content-Encoding: they are the ones `sha256` and `bytes` of
    the export's artifact speak of, and a download that broke off goes on by `Range` and `If-Range`. Unpacked
    or without duplicates, it is sent as a whole only.
    """
    async with services.sessions() as session:
        artifact, run = await kept_artifact(session, client, artifact_id)
    content = content_of(artifact, artifact, run, ".jsonl.gz")
    lines = prefers(accept, LINES_MEDIA_TYPE, to=MEDIA_TYPE)
    if dedupe and artifact.duplicate_gids != 0:
        view = await _distinct(services, artifact, content, lines=lines)
        return await send_view(services, request, content, view)
    if lines:
        name = content.name.removesuffix(".gz")
        view = View("lines", LINES_MEDIA_TYPE, name, artifact.uncompressed_bytes, unpacked)
        return await send_view(services, request, content, view)
    return await send(services, request, content)


@router.get(
    "/{artifact_id}/outputs/{format}/{output_id}/content",
    response_class=StreamingResponse,
    responses=content_responses("The file.", "application/vnd.apache.parquet", "text/csv")
    | problems(*ON_CALL, *ON_CONTENT),
    openapi_extra=PARAMETERS,
)
async def get_output_content(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    format: Format,  # noqa: A002 - the name it has in the path
    output_id: OutputIdPath,
    services: ServicesOf,
    request: Request,
) -> Response:
    """Download a file that was made of an archived one; ranges and conditions as for that."""
    async with services.sessions() as session:
        output, artifact, run = await visible_output(session, client, artifact_id, output_id)
    ending = output.key.rsplit("-", 1)[-1]
    return await send(services, request, content_of(output, artifact, run, f"-{ending}"))


def content_of(file: Artifact | OutputFile, artifact: Artifact, run: Run, ending: str) -> Content:
    """A file of an artifact, with what is said of it where it is sent."""
    made = artifact.created_at.strftime("%Y%m%dT%H%M%SZ")
    return Content(
        key=file.key,
        bytes=file.bytes,
        sha256=file.sha256,
        media_type=file.media_type,
        name=f"asana-{run.workspace}-{run.kind}-{made}-{artifact.id}{ending}",
        made_at=artifact.created_at,
        expires_at=None if artifact.held_at else artifact.expires_at,
    )


async def _distinct(services: Services, artifact: Artifact, content: Content, *, lines: bool) -> View:
    if artifact.duplicate_gids is None:
        fault = Fault("?dedupe", "This file was archived before duplicates were looked for.")
        raise ProblemError(Code.VALIDATION_FAILED, fault.detail, (fault,))
    repeated = await opened(services, artifact.duplicates_key)

    def distinct(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        once = without(unpacked(pieces), ordinals(repeated.chunks()))
        return once if lines else packed(once)

    name = content.name.replace(".jsonl.gz", "-distinct.jsonl" + ("" if lines else ".gz"))
    media_type = LINES_MEDIA_TYPE if lines else MEDIA_TYPE
    return View("distinct-lines" if lines else "distinct", media_type, name, None, distinct)
