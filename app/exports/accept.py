"""Accepting a request: durable when the caller hears of it."""

from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Credential, CredentialState, Kind, Priority, Workspace
from app.database.base import Json
from app.events.log import EventType, record
from app.exports.idempotency import fingerprint
from app.exports.models import Export, Run, Status
from app.ids import LaneKey, new_export_id, new_run_id
from app.lanes.enqueue import enqueue
from app.problems import Code, Fault, ProblemError
from app.settings import LaneScope


class AsanaRequest(Protocol):
    """What is asked of Asana."""

    workspace: str

    @property
    def kind(self) -> Kind: ...

    def for_asana(self) -> Json: ...


@dataclass(frozen=True)
class Submission:
    """One caller's wish: what is asked of Asana, and how it is to be treated here."""

    request: AsanaRequest
    priority: Priority = Priority.NORMAL
    labels: dict[str, str] = field(default_factory=dict)
    request_id: str | None = None


async def accept(session: AsyncSession, client: Client, wanted: Submission, lane_scope: LaneScope) -> Export:
    """Queue an export in the caller's transaction, which the caller commits before answering.

    Raises `ProblemError`: `not-found` for a workspace that is not registered or not granted (which of the two
    is not told), `validation-failed` for a priority above the grant's.
    """
    request = wanted.request
    workspace = await _granted_workspace(session, client, wanted)
    lane = lane_of(request.workspace, request.kind, lane_scope)
    token = await session.scalar(select(Credential.state).where(Credential.id == workspace.credential))
    await enqueue(session, lane, request.workspace, has_token=token is CredentialState.VALID)
    body = request.for_asana()
    run = Run(
        id=new_run_id(),
        lane=lane,
        workspace=workspace.gid,
        credential=workspace.credential,
        kind=request.kind,
        request=body,
        fingerprint=fingerprint(body),
        status=Status.QUEUED,
        rank=wanted.priority.rank,
    )
    export = Export(
        id=new_export_id(),
        client=client.id,
        run=run.id,
        kind=request.kind,
        workspace=workspace.gid,
        status=Status.QUEUED,
        priority=wanted.priority,
        request=body,
        labels=wanted.labels,
    )
    session.add(run)
    await session.flush()
    session.add(export)
    await session.flush()
    await record(
        session,
        EventType.EXPORT_CREATED,
        actor=client.actor,
        export=export.id,
        run=run.id,
        lane=lane,
        request_id=wanted.request_id,
        data={"status": Status.QUEUED, "version": 1, "priority": wanted.priority},
    )
    return export


def lane_of(workspace: str, kind: Kind, scope: LaneScope) -> LaneKey:
    """The lane whose slot an export of the workspace needs."""
    return LaneKey(workspace if scope is LaneScope.WORKSPACE else f"{workspace}/{kind}")


async def _granted_workspace(session: AsyncSession, client: Client, wanted: Submission) -> Workspace:
    gid = wanted.request.workspace
    grant = client.grant_for(gid, wanted.request.kind)
    workspace = await session.get(Workspace, gid) if grant else None
    if grant is None or workspace is None:
        raise ProblemError(
            Code.NOT_FOUND,
            f"There is no workspace {gid} that you may export by a {wanted.request.kind} export.",
        )
    if wanted.priority.rank < grant.highest_priority.rank:
        fault = Fault("/priority", f"your grant for workspace {gid} allows {grant.highest_priority} at most")
        raise ProblemError(Code.VALIDATION_FAILED, "The request has 1 fault.", (fault,))
    return workspace
