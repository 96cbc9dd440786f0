"""A workspace's queue and its slot: to be seen by its users, and paused, drained and resumed."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.credentials import workspace_by_gid
from app.access.models import Client, Kind
from app.api.auth import ExportsReader, LanesAdmin, ReasonBody, cause_of
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.services import Services, ServicesOf
from app.api.workspaces import WorkspaceGid
from app.events.log import Cause
from app.exports.accept import lane_of
from app.exports.lanes import LaneState, LaneView, lane_view
from app.exports.models import Phase, Status
from app.ids import LaneKey
from app.lanes.control import drain, pause, resume
from app.lanes.models import WaitReason

router = APIRouter(prefix="/v1/workspaces/{gid}/lane", tags=["lanes"])

LaneKind = Annotated[
    Kind,
    Query(description="Which lane, where `LANE_SCOPE` gives resource and graph exports one each."),
]


class SlotOut(BaseModel):
    """The run that holds the slot."""

    run: str
    kind: Kind
    status: Status
    phase: Phase | None
    wait_reason: WaitReason | None
    started_at: datetime | None = Field(description="When Asana accepted it.")


class LaneOut(BaseModel):
    """A workspace's queue and its slot."""

    workspace: str
    lane: str
    state: LaneState = Field(
        description="`paused` starts nothing and goes on accepting; `draining` accepts nothing and goes on."
    )
    holder: str | None = Field(description="The worker that serves it now.")
    slot: SlotOut | None = Field(description="What is in progress at Asana.")
    queued: int
    oldest_queued_at: datetime | None
    archiving: int = Field(description="Runs whose files are being fetched; they hold no slot.")
    wait_reason: WaitReason | None = Field(description="What the lane as a whole waits for.")
    waiting_since: datetime | None
    next_attempt_at: datetime | None = Field(description="When Asana is asked again.")
    refusals: int = Field(description="Times in a row that Asana has answered 403.")

    @classmethod
    def of(cls, workspace: str, view: LaneView) -> "LaneOut":
        slot = view.slot
        return cls(
            workspace=workspace,
            lane=view.key,
            state=view.state,
            holder=view.holder,
            slot=SlotOut(
                run=slot.id,
                kind=slot.kind,
                status=slot.status,
                phase=slot.phase,
                wait_reason=slot.wait_reason,
                started_at=slot.submitted_at,
            )
            if slot
            else None,
            queued=view.queued,
            oldest_queued_at=view.oldest_queued_at,
            archiving=view.archiving,
            wait_reason=view.wait_reason,
            waiting_since=view.waiting_since,
            next_attempt_at=view.next_attempt_at,
            refusals=view.refusals,
        )


@router.get("", responses=problems(*ON_CALL))
async def get_lane(
    gid: WorkspaceGid, client: ExportsReader, services: ServicesOf, kind: LaneKind = Kind.RESOURCE
) -> LaneOut:
    """What a workspace's exports are waiting for."""
    async with services.sessions() as session:
        key = await _lane_of(session, services, client, gid, kind)
        return LaneOut.of(gid, await lane_view(session, key))


class Act:
    """Does something to a lane; asked for what is so already, nothing happens."""

    def __init__(self, act: Callable[[AsyncSession, LaneKey, str, Cause], Awaitable[None]]) -> None:
        self._act = act

    async def __call__(
        self,
        gid: WorkspaceGid,
        client: LanesAdmin,
        services: ServicesOf,
        body: ReasonBody,
        kind: LaneKind = Kind.RESOURCE,
    ) -> LaneOut:
        async with services.sessions.begin() as session:
            key = await _lane_of(session, services, client, gid, kind)
            await self._act(session, key, gid, cause_of(client, body.note))
            return LaneOut.of(gid, await lane_view(session, key))


@router.post("/pause", responses=problems(*ON_BODY))
async def pause_lane(lane: Annotated[LaneOut, Depends(Act(pause))]) -> LaneOut:
    """Start nothing from now on. What is in progress at Asana ends as it would; requests are accepted."""
    return lane


@router.post("/drain", responses=problems(*ON_BODY))
async def drain_lane(lane: Annotated[LaneOut, Depends(Act(drain))]) -> LaneOut:
    """Accept nothing from now on; what is queued runs."""
    return lane


@router.post("/resume", responses=problems(*ON_BODY))
async def resume_lane(lane: Annotated[LaneOut, Depends(Act(resume))]) -> LaneOut:
    """End a pause and a drain. A lane that waits for something else asks again at once."""
    return lane


async def _lane_of(
    session: AsyncSession, services: Services, client: Client, gid: str, kind: Kind
) -> LaneKey:
    """Raises `ProblemError` `not-found` where the client has no grant, too."""
    await workspace_by_gid(session, client, gid)
    return lane_of(gid, kind, services.settings.lane_scope)
