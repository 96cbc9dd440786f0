"""Bodies of requests and answers about exports."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from app.access.models import Kind, Priority
from app.api.problems import ErrorOut
from app.artifacts.models import Artifact, ArtifactState
from app.events.log import Event
from app.exports.models import Phase, Status
from app.exports.reading import ExportView
from app.exports.requests import GraphRequest, ResourceRequest
from app.lanes.models import WaitReason

Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^:\x00]+$")]
Labels = Annotated[
    dict[Label, Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]],
    Field(default_factory=dict, max_length=20, description="Yours to find exports by; not sent to Asana."),
]
PRIORITY = "Goes before lower ones in the workspace's queue; a started export is never interrupted."


class ResourceExportCreate(ResourceRequest):
    """A bulk export of a workspace's tasks, teams or messages; the fields are Asana's own."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "workspace": "12345",
                    "export_request_parameters": [
                        {
                            "resource_type": "task",
                            "filters": {"modified_at.after": "2026-01-01T00:00:00Z"},
                            "fields": ["gid", "name", "assignee.name"],
                        }
                    ],
                    "priority": "normal",
                    "labels": {"team": "bi"},
                }
            ]
        },
    )

    priority: Priority = Field(Priority.NORMAL, description=PRIORITY)
    labels: Labels


class GraphExportCreate(GraphRequest):
    """An export of a goal, team, portfolio or project and what is below it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"workspace": "12345", "parent": "181636", "priority": "high"}]},
    )

    priority: Priority = Field(Priority.NORMAL, description=PRIORITY)
    labels: Labels


class QueueOut(BaseModel):
    """The place in the workspace's queue."""

    position: int = Field(description="1 for the next to start.")
    ahead: int


class DataAsOfOut(BaseModel):
    """Between which moments Asana read the objects; it is not a snapshot."""

    model_config = ConfigDict(populate_by_name=True)

    since: datetime | None = Field(alias="from")
    to: datetime | None


class RunOut(BaseModel):
    """The work at Asana."""

    id: str
    attempt: int
    phase: Phase | None
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

    @classmethod
    def of(cls, artifact: Artifact, state: ArtifactState) -> "ArtifactOut":
        return cls(
            id=artifact.id,
            state=state,
            url=f"/v1/artifacts/{artifact.id}/content",
            location=artifact.location,
            media_type=artifact.media_type,
            bytes=artifact.bytes,
            uncompressed_bytes=artifact.uncompressed_bytes,
            sha256=artifact.sha256,
            lines=artifact.lines,
            by_type=artifact.by_type,
            expires_at=artifact.expires_at,
        )


class WarningOut(BaseModel):
    """Something worth knowing about an export that went well."""

    code: str
    detail: str


EXPORT_EXAMPLE: JsonDict = {
    "id": "exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071",
    "kind": "resource",
    "workspace": "12345",
    "status": "queued",
    "wait_reason": "behind_others",
    "priority": "normal",
    "request": {"workspace": "12345", "export_request_parameters": [{"resource_type": "task"}]},
    "labels": {"team": "bi"},
    "queue": {"position": 3, "ahead": 2},
    "run": {
        "id": "run_01997d3c5b7d7e3f8a1b2c3d4e5f6072",
        "attempt": 1,
        "phase": None,
        "asana_job_gid": None,
        "data_as_of": {"from": None, "to": None},
    },
    "artifact": None,
    "error": None,
    "warnings": [],
    "created_by": "bi",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "started_at": None,
    "finished_at": None,
    "retry_of": None,
    "version": 1,
}


class ExportOut(BaseModel):
    """One caller's request and its outcome."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXPORT_EXAMPLE]})

    id: str
    kind: Kind
    workspace: str
    status: Status
    wait_reason: WaitReason | None = Field(description="Why it is not moving; null while it is.")
    priority: Priority
    request: dict[str, Any] = Field(description="What Asana is asked for.")
    labels: dict[str, str]
    queue: QueueOut | None = Field(description="Null unless queued.")
    run: RunOut
    artifact: ArtifactOut | None = Field(description="Null until succeeded.")
    error: ErrorOut | None = Field(description="Why it failed; null unless it did.")
    warnings: list[WarningOut]
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    retry_of: str | None
    version: int = Field(description="Rises with every change of status, phase or outcome.")

    @classmethod
    def of(cls, view: ExportView) -> "ExportOut":
        export, run = view.export, view.run
        return cls(
            id=export.id,
            kind=export.kind,
            workspace=export.workspace,
            status=export.status,
            wait_reason=view.wait_reason,
            priority=export.priority,
            request=export.request,
            labels=export.labels,
            queue=None if view.ahead is None else QueueOut(position=view.ahead + 1, ahead=view.ahead),
            run=RunOut(
                id=run.id,
                attempt=run.attempt,
                phase=run.phase,
                asana_job_gid=run.asana_job,
                data_as_of=DataAsOfOut(since=run.data_from, to=run.data_to),
            ),
            artifact=ArtifactOut.of(view.artifact, view.artifact_state)
            if view.artifact and view.artifact_state
            else None,
            error=None if export.error is None else ErrorOut.model_validate(export.error),
            warnings=[WarningOut.model_validate(warning) for warning in run.warnings],
            created_by=view.client,
            created_at=export.created_at,
            started_at=export.started_at,
            finished_at=export.finished_at,
            retry_of=export.retry_of,
            version=export.version,
        )


class ExportPage(BaseModel):
    """Exports, the newest first."""

    items: list[ExportOut]
    next_page_token: str | None = Field(description="For the next page; null on the last.")


class EventOut(BaseModel):
    """Something that happened."""

    id: str
    type: str
    actor: str = Field(description="Who made it happen: a client or a worker.")
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
