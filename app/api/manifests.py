"""What is known of the file of an export."""

from datetime import datetime
from hashlib import sha256
from typing import Any

import rfc8785
from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.api.auth import ExportsReader
from app.api.ids import ExportIdPath
from app.api.problems import ON_CALL, problems
from app.api.schemas import DataAsOfOut
from app.api.services import ServicesOf
from app.api.waiting import NOT_MODIFIED, IfNoneMatch, matches, retry_after
from app.artifacts.receipt import MEDIA_TYPE
from app.exports.outcome import manifest_for, receipt_for
from app.exports.plan import estimate_of
from app.exports.reading import ExportView, export_view
from app.exports.states import FINAL
from app.ids import ExportId
from app.problems import Code, ProblemError

router = APIRouter(prefix="/v1/exports", tags=["exports"])

PRIVATE = {"Cache-Control": "private, no-cache"}


class JoseResponse(Response):
    """A compact JWS."""

    media_type = MEDIA_TYPE


class OutputOut(BaseModel):
    """One file with the content."""

    model_config = ConfigDict(from_attributes=True)

    type: str | None = Field(description="The resource type of all that is in it; null if there are several.")
    url: str = Field(description="Where to download it, with an API key.")
    count: int = Field(description="How many objects are in it.")
    bytes: int
    uncompressed_bytes: int | None = Field(description="Of the lines; null for another format.")
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
        view = await _ended(session, client, export_id)
        manifest = ManifestOut.model_validate(await manifest_for(session, view))
    content = rfc8785.dumps(manifest.model_dump(mode="json", by_alias=True))
    headers = PRIVATE | {"ETag": f'"sha256-{sha256(content).hexdigest()}"'}
    if matches(seen, headers["ETag"]):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


# Its facts left out.
SIGNED_NOTHING = (
    "eyJhbGciOiJFZDI1NTE5Iiwia2lkIjoia1ByS19xbXhWV2FZVndhOXd3QkY2SXVvM3ZWeno3VHhIQ1R3WEJ5Z3JTNCJ9.e30."
    "c2lnbmF0dXJl"
)
RECEIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A compact JWS (RFC 7515), signed by Ed25519.",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": SIGNED_NOTHING}},
    }
}


@router.get(
    "/{export_id}/receipt",
    response_class=JoseResponse,
    responses=problems(*ON_CALL, Code.NOT_READY) | RECEIPT,
)
async def get_export_receipt(
    client: ExportsReader, export_id: ExportIdPath, services: ServicesOf
) -> Response:
    """What was verified of the file, signed: proof that a file is whole and came from here.

    The same each time, and there also when the file is no longer kept. `/.well-known/jwks.json` has the keys;
    `asana-exports receipt verify` checks it.
    """
    async with services.sessions.begin() as session:
        view = await _ended(session, client, export_id)
        return JoseResponse(await receipt_for(session, services.vault, view), headers=PRIVATE)


async def _ended(session: AsyncSession, client: Client, export_id: ExportId) -> ExportView:
    view = await export_view(session, client, export_id)
    if view.export.status not in FINAL:
        soon = retry_after(view, await estimate_of(session, view))
        raise ProblemError(Code.NOT_READY, f"The export is {view.export.status}.", retry_after=soon)
    return view
