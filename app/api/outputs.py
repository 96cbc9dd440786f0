"""Other formats of an archived file: asked for, made by a worker, kept beside the original."""

from collections.abc import Iterable
from datetime import datetime

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.api.auth import ArtifactsReader, cause_of
from app.api.ids import ArtifactIdPath
from app.api.problems import ON_BODY, ON_CALL, ErrorOut, problems
from app.api.services import ServicesOf
from app.artifacts.models import ConversionState, OutputFile
from app.artifacts.outputs import Format
from app.artifacts.shapes import Form
from app.exports.outputs import ConversionView, ask_for_conversion, conversion_of, conversions_of
from app.problems import Code

RETRY_AFTER = 5

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])


class OutputRequest(BaseModel):
    """What the file is to be made into."""

    model_config = ConfigDict(extra="forbid")

    format: Format = Field(examples=[Format.PARQUET])


class ColumnOut(BaseModel):
    """A column of a table."""

    name: str
    type: Form


class OutputFileOut(BaseModel):
    """One file, with all objects of a resource type."""

    id: str
    resource_type: str
    url: str = Field(description="Where to download it, with an API key.")
    media_type: str
    bytes: int
    sha256: str
    rows: int
    columns: list[ColumnOut]

    @classmethod
    def of(cls, file: OutputFile) -> "OutputFileOut":
        return cls(
            id=file.id,
            resource_type=file.resource_type,
            url=file.content_path,
            media_type=file.media_type,
            bytes=file.bytes,
            sha256=file.sha256,
            rows=file.rows,
            columns=[ColumnOut.model_validate(column) for column in file.columns],
        )


class ConversionOut(BaseModel):
    """An archived file in another format."""

    artifact: str
    format: Format
    state: ConversionState
    error: ErrorOut | None = Field(description="Why it failed; null unless it did.")
    files: list[OutputFileOut] = Field(description="One for each resource type; empty until it is ready.")
    requested_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, view: ConversionView) -> "ConversionOut":
        conversion = view.conversion
        return cls(
            artifact=conversion.artifact,
            format=conversion.format,
            state=conversion.state,
            error=None if conversion.error is None else ErrorOut.model_validate(conversion.error),
            files=[OutputFileOut.of(file) for file in view.files],
            requested_at=conversion.requested_at,
            finished_at=conversion.finished_at,
        )


class ConversionList(BaseModel):
    """The formats that were asked for."""

    items: list[ConversionOut]

    @classmethod
    def of(cls, views: Iterable[ConversionView]) -> "ConversionList":
        return cls(items=[ConversionOut.of(view) for view in views])


@router.post(
    "/{artifact_id}/outputs",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*ON_BODY, Code.ARTIFACT_EXPIRED),
)
async def request_output(
    body: OutputRequest,
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    services: ServicesOf,
    response: Response,
) -> ConversionOut:
    """Have the file made into Parquet or CSV, a file for each resource type.

    Asked for again, the same is answered; one that has failed is tried anew. The original stays as it is.
    """
    async with services.sessions.begin() as session:
        view = await ask_for_conversion(session, client, artifact_id, body.format, cause_of(client))
        made = ConversionOut.of(view)
    response.headers["Location"] = f"/v1/artifacts/{artifact_id}/outputs/{body.format}"
    look_again(response, pending=made.state is ConversionState.PENDING)
    return made


@router.get("/{artifact_id}/outputs", responses=problems(*ON_CALL, Code.ARTIFACT_EXPIRED))
async def list_outputs(
    client: ArtifactsReader, artifact_id: ArtifactIdPath, services: ServicesOf
) -> ConversionList:
    """The formats that were asked for, and how far they are."""
    async with services.sessions() as session:
        return ConversionList.of(await conversions_of(session, client, artifact_id))


@router.get("/{artifact_id}/outputs/{format}", responses=problems(*ON_CALL, Code.ARTIFACT_EXPIRED))
async def get_output(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    format: Format,  # noqa: A002 - the name it has in the path
    services: ServicesOf,
    response: Response,
) -> ConversionOut:
    """How far one of them is, and its files once it is ready.

    While it is pending, `Retry-After` tells when to look again.
    """
    async with services.sessions() as session:
        made = ConversionOut.of(await conversion_of(session, client, artifact_id, format))
    look_again(response, pending=made.state is ConversionState.PENDING)
    return made


def look_again(response: Response, *, pending: bool) -> None:
    """Say when to look again at what a worker is still to make."""
    if pending:
        response.headers["Retry-After"] = str(RETRY_AFTER)
