"""That a file goes before its time, or stays beyond it; and that it is fetched from Asana again."""

from datetime import datetime

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, Field

from app.api.auth import Admin, ArtifactsReader, ExportsWriter, NoteQuery, ReasonBody, cause_of
from app.api.ids import ArtifactIdPath
from app.api.outputs import look_again
from app.api.problems import ON_BODY, ON_CALL, ErrorOut, problems
from app.api.services import ServicesOf
from app.artifacts.models import Refetch, RefetchState
from app.exports.refetches import refetch_of, request_refetch
from app.exports.removal import delete_artifact, hold_artifact, release_artifact
from app.problems import Code

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])


class RefetchOut(BaseModel):
    """How far it is to fetch a file from Asana again."""

    artifact: str
    state: RefetchState
    error: ErrorOut | None = Field(description="Why it failed; null unless it did.")
    requested_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, refetch: Refetch) -> "RefetchOut":
        return cls(
            artifact=refetch.artifact,
            state=refetch.state,
            error=None if refetch.error is None else ErrorOut.model_validate(refetch.error),
            requested_at=refetch.requested_at,
            finished_at=refetch.finished_at,
        )


@router.delete(
    "/{artifact_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(*ON_CALL, Code.LEGAL_HOLD, Code.ARTIFACT_SHARED),
)
async def delete_artifact_file(
    client: ExportsWriter, artifact_id: ArtifactIdPath, services: ServicesOf, note: NoteQuery = None
) -> None:
    """Let nobody have the file any more, nor what was made of it; the same when repeated.

    Downloads that have begun end well: the bytes go some hours later. Receipts stay to be had.
    """
    async with services.sessions.begin() as session:
        await delete_artifact(session, client, artifact_id, cause_of(client, note))


@router.put(
    "/{artifact_id}/hold",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(*ON_BODY, Code.ARTIFACT_EXPIRED),
)
async def hold_artifact_file(
    client: Admin, artifact_id: ArtifactIdPath, services: ServicesOf, body: ReasonBody
) -> None:
    """Hold the file: it neither expires nor can be deleted until it is released; the same when repeated."""
    async with services.sessions.begin() as session:
        await hold_artifact(session, client, artifact_id, cause_of(client, body.note))


@router.delete("/{artifact_id}/hold", status_code=status.HTTP_204_NO_CONTENT, responses=problems(*ON_CALL))
async def release_artifact_file(
    client: Admin, artifact_id: ArtifactIdPath, services: ServicesOf, note: NoteQuery = None
) -> None:
    """Release a file that is held. If its time is over by now, it is kept for some days more, and its end is
    announced."""
    notice = services.settings.expiring_notice
    async with services.sessions.begin() as session:
        await release_artifact(session, client, artifact_id, notice, cause_of(client, note))


@router.post(
    "/{artifact_id}/refetch",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*ON_BODY, Code.ARTIFACT_EXPIRED, Code.UPSTREAM_ARTIFACT_EXPIRED),
)
async def refetch_artifact(
    client: ArtifactsReader,
    artifact_id: ArtifactIdPath,
    services: ServicesOf,
    response: Response,
    body: ReasonBody,
) -> RefetchOut:
    """Have the file fetched from Asana again, should the store have lost or damaged it.

    Asana keeps files for 30 days. Only the same bytes are taken: what is stored stays until they are there.
    """
    async with services.sessions.begin() as session:
        found = await request_refetch(session, client, artifact_id, cause_of(client, body.note))
        asked = RefetchOut.of(found)
    response.headers["Location"] = f"/v1/artifacts/{artifact_id}/refetch"
    look_again(response, pending=asked.state is RefetchState.PENDING)
    return asked


@router.get("/{artifact_id}/refetch", responses=problems(*ON_CALL, Code.ARTIFACT_EXPIRED))
async def get_refetch(
    client: ArtifactsReader, artifact_id: ArtifactIdPath, services: ServicesOf, response: Response
) -> RefetchOut:
    """How far it is. While it is pending, `Retry-After` tells when to look again."""
    async with services.sessions() as session:
        found = RefetchOut.of(await refetch_of(session, client, artifact_id))
    look_again(response, pending=found.state is RefetchState.PENDING)
    return found
