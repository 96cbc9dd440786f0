"""Bodies of requests for exports: Asana's own fields at the top level, ours beside them."""

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag
from pydantic.config import JsonDict

from app.exports.accept import Submission
from app.exports.requests import ExportRequest, GraphRequest, Moment, ResourceRequest
from app.exports.templates import GRAPH, RESOURCE
from app.exports.wishes import Wishes

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


class Treatment(Wishes):
    """How a request is to be treated here; nothing of it is sent to Asana."""

    deliver_by: Moment | None = Field(
        None, description="When you need it: within a priority the earliest goes first."
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


def _kind(body: Any) -> str:
    return GRAPH if isinstance(body, dict) and "parent" in body else RESOURCE


AnyExportCreate = Annotated[
    Annotated[ResourceExportCreate, Tag(RESOURCE)] | Annotated[GraphExportCreate, Tag(GRAPH)],
    Discriminator(_kind),
]
