"""What is known of the file of an export."""

from datetime import datetime
from hashlib import sha256
from typing import Any

import rfc8785
from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.api.auth import ExportsReader
from app.api.ids import ExportIdPath
from app.api.problems import ON_CALL, problems
from app.api.schemas import DataAsOfOut
from app.api.services import ServicesOf
from app.api.waiting import NOT_MODIFIED, IfNoneMatch, matches, retry_after
from app.exports.outcome import manifest_for
from app.exports.plan import estimate_of
from app.exports.reading import export_view
from app.exports.states import FINAL
from app.problems import Code, ProblemError

router = APIRouter(prefix="/v1/exports", tags=["exports"])


class OutputOut(BaseModel):
    """One file with the content."""

    model_config = ConfigDict(from_attributes=True)

    type: str | None = Field(description="The resource type of all that is in it; null if there are several.")
    url: str = Field(description="Where to download it, with an API key.")
    count: int = Field(description="How many objects are in it.")
    bytes: int
    uncompressed_bytes: int
    sha256: str = Field(description="Of the stored bytes.")
    media_type: str


class TotalsOut(BaseModel):
    """Counts over the whole content."""

    model_config = ConfigDict(from_attributes=True)

    lines: int
    by_type: dict[str, int] = Field(description="Lines by resource type.")
    duplicate_gids: int | None = Field(
        description="Lines whose resource type and gid were on a line before; null if not looked for."
    )


class SchemaOut(BaseModel):
    """Which keys the objects of a resource type have; both are null if there were too many to keep."""

    model_config = ConfigDict(from_attributes=True)

    fingerprint: str | None = Field(description="SHA-256 of the canonical form (RFC 8785) of the paths.")
    paths: list[str] | None = Field(description="Such as `custom_fields[].enum_value.gid`, sorted.")


class UpstreamOut(BaseModel):
    """What Asana calls it."""

    model_config = ConfigDict(from_attributes=True)

    job: str | None
    export: str | None


class ManifestOut(BaseModel):
    """What there is to download, and what is known of it.

    Named as in the manifest of FHIR Bulk Data, where that has it.
    """

    model_config = ConfigDict(from_attributes=True)

    transaction_time: datetime | None = Field(
        description="Objects modified after this moment may be missing, or be told as they were before."
    )
    request: dict[str, Any] = Field(description="What Asana was asked for.")
    requires_access_token: bool = Field(description="Always true: each `url` needs an API key.")
    output: list[OutputOut] = Field(description="The content, once in each form in which it can be had.")
    deleted: list[OutputOut] = Field(description="Always empty: Asana does not tell what was deleted.")
    data_as_of: DataAsOfOut
    totals: TotalsOut
    schemas: dict[str, SchemaOut] | None = Field(
        description="By resource type; null for a file from before they were looked at."
    )
    upstream: UpstreamOut
    expires_at: datetime


@router.get(
    "/{export_id}/manifest",
    response_model=ManifestOut,
    responses=problems(*ON_CALL, Code.NOT_READY, Code.ARTIFACT_EXPIRED) | NOT_MODIFIED,
)
async def get_export_manifest(
    client: ExportsReader, export_id: ExportIdPath, services: ServicesOf, seen: IfNoneMatch = None
) -> Response:
    """What there is to download of a succeeded export: files, digests, counts, keys.

    An export that failed or was canceled has no manifest (404); its `error` tells why.
    """
    async with services.sessions() as session:
        view = await export_view(session, client, export_id)
        if view.export.status not in FINAL:
            soon = retry_after(view, await estimate_of(session, view))
            raise ProblemError(Code.NOT_READY, f"The export is {view.export.status}.", retry_after=soon)
        manifest = ManifestOut.model_validate(await manifest_for(session, view))
    content = rfc8785.dumps(manifest.model_dump(mode="json", by_alias=True))
    headers = {"ETag": f'"sha256-{sha256(content).hexdigest()}"', "Cache-Control": "private, no-cache"}
    if matches(seen, headers["ETag"]):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type="application/json")
