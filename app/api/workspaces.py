"""Workspaces of Asana and the credentials that export them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.access.clients import MOST_DAYS
from app.access.credentials import register_workspace, remove_workspace, workspace_by_gid, workspaces_of
from app.access.models import Workspace
from app.api.auth import Admin, ExportsReader, Note, NoteQuery, cause_of
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.services import ServicesOf
from app.ids import GID, CredentialId
from app.problems import Code

router = APIRouter(prefix="/v1/workspaces", tags=["workspaces"])

WorkspaceGid = Annotated[str, Path(alias="gid", pattern=GID, examples=["12345"])]
ON_PUT = problems(*ON_BODY, Code.WORKSPACE_REFUSED, Code.CREDENTIAL_REFUSED, Code.UPSTREAM_UNAVAILABLE)


class WorkspacePut(BaseModel):
    """Which credential exports the workspace, and for how long its files are kept."""

    model_config = ConfigDict(extra="forbid")

    credential: str = Field(
        pattern=r"^cred_[0-9a-f]{32}$", examples=["cred_01997d3c5b7d7e3f8a1b2c3d4e5f6074"]
    )
    retention_days: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=MOST_DAYS,
            description="Days for which files archived from now on are kept, of clients without a wish of "
            "their own; null, or left out, for the service's own.",
            examples=[365],
        ),
    ] = None
    note: Note = None


class WorkspaceOut(BaseModel):
    """A workspace that can be exported."""

    gid: str
    name: str = Field(description="As Asana tells it.")
    credential: str
    retention_days: int | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, workspace: Workspace) -> "WorkspaceOut":
        return cls(
            gid=workspace.gid,
            name=workspace.name,
            credential=workspace.credential,
            retention_days=workspace.retention_days,
            created_at=workspace.created_at,
            updated_at=workspace.updated_at,
        )


class WorkspaceList(BaseModel):
    items: list[WorkspaceOut]


@router.put(
    "/{gid}",
    responses=ON_PUT | {201: {"model": WorkspaceOut, "description": "Registered"}},
)
async def put_workspace(
    gid: WorkspaceGid, body: WorkspacePut, client: Admin, services: ServicesOf, response: Response
) -> WorkspaceOut:
    """Register a workspace, or replace what is set of it, once Asana has shown that the credential opens it.

    Exports accepted before keep the credential they were accepted with.
    """
    workspace, is_new = await register_workspace(
        services.sessions,
        services.vault,
        services.asana,
        gid,
        CredentialId(body.credential),
        cause_of(client, body.note),
        body.retention_days,
    )
    if is_new:
        response.status_code = status.HTTP_201_CREATED
        response.headers["Location"] = f"/v1/workspaces/{gid}"
    return WorkspaceOut.of(workspace)


@router.get("", responses=problems(*ON_CALL))
async def list_workspaces(client: ExportsReader, services: ServicesOf) -> WorkspaceList:
    """The workspaces you have a grant for."""
    async with services.sessions() as session:
        return WorkspaceList(items=[WorkspaceOut.of(each) for each in await workspaces_of(session, client)])


@router.get("/{gid}", responses=problems(*ON_CALL))
async def get_workspace(gid: WorkspaceGid, client: ExportsReader, services: ServicesOf) -> WorkspaceOut:
    """One workspace."""
    async with services.sessions() as session:
        return WorkspaceOut.of(await workspace_by_gid(session, client, gid))


@router.delete("/{gid}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(*ON_CALL))
async def delete_workspace(
    gid: WorkspaceGid, client: Admin, services: ServicesOf, note: NoteQuery = None
) -> None:
    """Accept no exports of it any more. What is queued runs, and all there is stays to be seen."""
    async with services.sessions.begin() as session:
        await remove_workspace(session, client, gid, cause_of(client, note))
