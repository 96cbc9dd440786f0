"""Answers about exports."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.access.models import Kind, Priority
from app.api.problems import ErrorOut
from app.artifacts.models import Artifact, ArtifactState
from app.events.log import Event
from app.exports.estimates import Estimate
from app.exports.models import Export, Phase, Status
from app.exports.plan import Plan
from app.exports.reading import ExportView
from app.lanes.models import WaitReason


class EtaOut(BaseModel):
    """Moments that will have come with a chance of 50 and of 90 percent, judged by past runs."""

    start_p50: datetime | None = Field(description="Null once started.")
    start_p90: datetime | None
    finish_p50: datetime
    finish_p90: datetime
    sample_size: int = Field(description="How many past runs like this one were looked at.")

    @classmethod
    def of(cls, estimate: Estimate) -> "EtaOut":
        return cls(**asdict(estimate))


class QueueOut(BaseModel):
    """The place in the workspace's queue."""

    position: int = Field(description="1 for the next to start.")
    ahead: int
    eta: EtaOut | None = Field(
        description="Null below five samples, while something holds up the whole queue, and in lists."
    )


class DataAsOfOut(BaseModel):
    """Between which moments Asana read the objects; it is not a snapshot."""

    model_config = ConfigDict(populate_by_name=True, from_attributes=True)

    since: datetime | None = Field(alias="from")
    to: datetime | None


class RunOut(BaseModel):
    """The work at Asana."""

    id: str
    attempt: int
    phase: Phase | None
    shared: bool = Field(description="Whether other exports have the same run.")
    eta: EtaOut | None = Field(description="When it will finish; null unless running, and in lists.")
    asana_job_gid: str | None
    data_as_of: DataAsOfOut


class ArtifactOut(BaseModel):
    """The verified file."""

    id: str
    state: ArtifactState
    url: str = Field(description="Where to download it, with an API key.")
    location: str = Field(description="Where the service keeps it.")
    media_type: str
    bytes: int
    uncompressed_bytes: int
    sha256: str = Field(description="Of the stored bytes.")
    lines: int
    by_type: dict[str, int] = Field(description="Lines by resource type.")
    expires_at: datetime
    held_since: datetime | None = Field(
        description="Since when an administrator holds it: it neither expires nor can be deleted."
    )
    missing_since: datetime | None = Field(
        description="Since when the store is known to lack a file of it; null unless it does."
    )

    @classmethod
    def of(cls, artifact: Artifact, state: ArtifactState) -> "ArtifactOut":
        return cls(
            id=artifact.id,
            state=state,
            url=artifact.content_path,
            location=artifact.location,
            media_type=artifact.media_type,
            bytes=artifact.bytes,
            uncompressed_bytes=artifact.uncompressed_bytes,
            sha256=artifact.sha256,
            lines=artifact.lines,
            by_type=artifact.by_type,
            expires_at=artifact.expires_at,
            held_since=artifact.held_at,
            missing_since=artifact.missing_since,
        )


class LatencyOut(BaseModel):
    """Where the time has gone, in milliseconds; the parts add up to the total."""

    total_ms: int
    behind_others_ms: int = Field(description="Waiting for the workspace's slot, or for a worker.")
    external_ms: int = Field(description="Somebody outside this service held the slot at Asana.")
    backoff_ms: int = Field(description="Held back by Asana's rate limit, or between two attempts.")
    paused_ms: int = Field(description="Waiting for a person: a paused queue, an invalid token.")
    run_ms: int = Field(description="In progress at Asana.")
    archive_ms: int = Field(description="Fetching and verifying the file.")


class WarningOut(BaseModel):
    """Something worth knowing about an export that went well."""

    code: str
    detail: str


class ScheduleSlotOut(BaseModel):
    """The slot of a schedule."""

    id: str
    slot: datetime

    @classmethod
    def of(cls, export: Export) -> "ScheduleSlotOut | None":
        return cls(id=export.schedule, slot=export.slot) if export.schedule and export.slot else None


class ExportOut(BaseModel):
    """One caller's request and its outcome."""

    id: str
    kind: Kind
    workspace: str
    status: Status
    wait_reason: WaitReason | None = Field(
        description="Why it is not moving; always set while queued, null while it moves."
    )
    priority: Priority
    request: dict[str, Any] = Field(description="What Asana is asked for.")
    labels: dict[str, str]
    queue: QueueOut | None = Field(description="Null unless queued.")
    run: RunOut
    artifact: ArtifactOut | None = Field(description="Null until succeeded.")
    error: ErrorOut | None = Field(description="Why it failed; null unless it did.")
    warnings: list[WarningOut]
    latency: LatencyOut
    deliver_by: datetime | None
    at_risk_since: datetime | None = Field(
        description="When it was first found that it will probably miss its `deliver_by`."
    )
    schedule: ScheduleSlotOut | None = Field(description="What asked for it, if a schedule did.")
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    retry_of: str | None
    version: int = Field(description="Rises with every change of status, phase or outcome.")

    @classmethod
    def of(cls, view: ExportView, estimate: Estimate | None = None) -> "ExportOut":
        export, run = view.export, view.run
        eta = EtaOut.of(estimate) if estimate else None
        return cls(
            id=export.id,
            kind=export.kind,
            workspace=export.workspace,
            status=export.status,
            wait_reason=view.wait_reason,
            priority=export.priority,
            request=export.request,
            labels=export.labels,
            queue=None
            if view.ahead is None
            else QueueOut(position=view.ahead + 1, ahead=view.ahead, eta=eta),
            run=RunOut(
                id=run.id,
                attempt=run.attempt,
                phase=run.phase,
                shared=view.shared,
                eta=eta if view.ahead is None else None,
                asana_job_gid=run.asana_job,
                data_as_of=DataAsOfOut(since=run.data_from, to=run.data_to),
            ),
            artifact=ArtifactOut.of(view.artifact, view.artifact_state)
            if view.artifact and view.artifact_state
            else None,
            error=None if export.error is None else ErrorOut.model_validate(export.error),
            warnings=[WarningOut.model_validate(warning) for warning in run.warnings],
            latency=LatencyOut(**asdict(view.latency)),
            deliver_by=export.deliver_by,
            at_risk_since=export.at_risk_since,
            schedule=ScheduleSlotOut.of(export),
            created_by=view.client,
            created_at=export.created_at,
            started_at=export.started_at,
            finished_at=export.finished_at,
            retry_of=export.retry_of,
            version=export.version,
        )


class PlanOut(BaseModel):
    """What would become of the export if it were asked for now."""

    lane: str
    status: Status = Field(description="`queued`, or how far the run has come that it would share.")
    shares_run: str | None = Field(description="The run that it would share.")
    queue: QueueOut | None

    @classmethod
    def of(cls, plan: Plan) -> "PlanOut":
        eta = EtaOut.of(plan.estimate) if plan.estimate else None
        queue = None if plan.ahead is None else QueueOut(position=plan.ahead + 1, ahead=plan.ahead, eta=eta)
        return cls(lane=plan.lane, status=plan.status, shares_run=plan.shares, queue=queue)


class ExportPage(BaseModel):
    """Exports, the newest first."""

    items: list[ExportOut]
    next_page_token: str | None = Field(description="For the next page; null on the last.")


class EventOut(BaseModel):
    """Something that happened."""

    id: str
    type: str
    actor: str = Field(description="Who made it happen: a client, a schedule or a worker.")
    request_id: str | None
    created_at: datetime
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> "EventOut":
        return cls(
            id=event.id,
            type=event.type,
            actor=event.actor,
            request_id=event.request_id,
            created_at=event.created_at,
            data=event.data,
        )


class Timeline(BaseModel):
    """What happened to an export, in order."""

    items: list[EventOut]

    @classmethod
    def of(cls, events: Iterable[Event]) -> "Timeline":
        return cls(items=[EventOut.of(event) for event in events])
