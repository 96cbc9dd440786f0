"""Bodies of requests for exports: Asana's own fields at the top level, ours beside them."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag
from pydantic.config import JsonDict

from app.access.models import Kind, Priority
from app.exports.accept import Submission
from app.exports.requests import ExportRequest, GraphRequest, Moment, ResourceRequest

MONTH = 30 * 86_400
RESOURCE_EXAMPLE: JsonDict = {
    "workspace": "12345",
    "export_request_parameters": [
        {
            "resource_type": "task",
            "filters": {"modified_at.after": "2026-01-01T00:00:00Z"},
            "fields": ["gid", "name", "assignee.name"],
        }
    ],
    "priority": "normal",
    "max_age": 3600,
    "labels": {"team": "bi"},
}
GRAPH_EXAMPLE: JsonDict = {"workspace": "12345", "parent": "181636", "priority": "high"}

Label = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^:\x00]+$")]
Labels = Annotated[
    dict[Label, Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]],
    Field(default_factory=dict, max_length=20, description="Yours to find exports by; not sent to Asana."),
]


class Treatment(BaseModel):
    """How a request is to be treated here; nothing of it is sent to Asana."""

    priority: Priority = Field(
        Priority.NORMAL,
        description="Higher ones go first in the workspace's queue; a started export is never interrupted.",
    )
    labels: Labels
    max_age: int = Field(
        0,
        strict=True,
        ge=0,
        le=MONTH,
        description="Seconds that the data may be old: a run that Asana began so recently, of the same "
        "request by the same credential, is shared instead of made again. 0 shares only what has not begun.",
    )
    deliver_by: Moment | None = Field(
        None, description="When you need it: within a priority the earliest goes first."
    )
    queue_ttl: int | None = Field(
        None, strict=True, ge=10, le=MONTH, description="Seconds after which it fails if it has not started."
    )

    def submission(self, request: ExportRequest, request_id: str) -> Submission:
        """The wish behind the body."""
        return Submission(
            request=request,
            priority=self.priority,
            labels=self.labels,
            max_age=self.max_age,
            deliver_by=self.deliver_by,
            queue_ttl=self.queue_ttl,
            request_id=request_id,
        )


class ResourceExportCreate(ResourceRequest, Treatment):
    """A bulk export of a workspace's tasks, teams or messages; the fields are Asana's own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [RESOURCE_EXAMPLE]})


class GraphExportCreate(GraphRequest, Treatment):
    """An export of a goal, team, portfolio or project and what is below it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [GRAPH_EXAMPLE]})


ExportCreate = ResourceExportCreate | GraphExportCreate


def _kind(body: Any) -> Kind:
    return Kind.GRAPH if isinstance(body, dict) and "parent" in body else Kind.RESOURCE


AnyExportCreate = Annotated[
    Annotated[ResourceExportCreate, Tag(Kind.RESOURCE)] | Annotated[GraphExportCreate, Tag(Kind.GRAPH)],
    Discriminator(_kind),
]
