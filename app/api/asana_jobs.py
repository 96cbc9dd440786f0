"""What is said where Asana is spoken: bodies under `data`, jobs, and which of their fields to show."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.config import JsonDict

from app.access.models import Kind
from app.api.bodies import ResourceExportCreate, Treatment
from app.database.base import Json
from app.exports.jobs import Job
from app.exports.models import Status
from app.exports.requests import Gid
from app.ids import GID
from app.opt_fields import parse, pick, split

JobStatus = Literal["not_started", "in_progress", "succeeded", "failed"]
STATUSES: dict[Status, JobStatus] = {
    Status.QUEUED: "not_started",
    Status.RUNNING: "in_progress",
    Status.ARCHIVING: "in_progress",
    Status.CANCELING: "in_progress",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELED: "failed",
}
MOST_OPT_FIELDS = 10_000
GRAPH: JsonDict = {"data": {"parent": "181636"}}
RESOURCE: JsonDict = {
    "data": {
        "workspace": "12345",
        "export_request_parameters": [
            {
                "resource_type": "task",
                "filters": {"modified_at.after": "2026-01-01T00:00:00Z"},
                "fields": ["gid", "name", "assignee.name"],
            }
        ],
    }
}

# Asana takes a number for the string of its digits.
AnyGid = Annotated[
    str,
    BeforeValidator(
        lambda given: str(given) if type(given) is int else given,
        json_schema_input_type=Gid | Annotated[int, Field(ge=0, lt=10**20)],
    ),
    StringConstraints(pattern=GID),
]
# As Asana writes it: UTC, milliseconds, `Z`.
Instant = Annotated[
    datetime,
    PlainSerializer(
        lambda at: f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
    ),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class Options(BaseModel):
    """How the answer is to look, as in `opt_fields` and `opt_pretty`; other options of Asana are ignored."""

    fields: (
        Annotated[list[str], Field(max_length=500)] | Annotated[str, Field(max_length=MOST_OPT_FIELDS)] | None
    ) = None
    pretty: bool = False


class AsanaBody(BaseModel):
    """What Asana is sent."""

    model_config = ConfigDict(extra="forbid")

    options: Options = Options()


class ResourceJobData(ResourceExportCreate):
    """As Asana takes it. How it is to be treated here (`priority`, `max_age`, …) may stand beside."""

    workspace: AnyGid


class ResourceJobCreate(AsanaBody):
    """A bulk export of a workspace's tasks, teams or messages."""

    model_config = ConfigDict(json_schema_extra={"examples": [RESOURCE]})

    data: ResourceJobData


class GraphJobData(Treatment):
    """As Asana takes it. How it is to be treated here, and the workspace, may stand beside."""

    model_config = ConfigDict(extra="forbid")

    parent: AnyGid
    workspace: AnyGid | None = Field(
        None,
        description="Of the parent. Left out, it is your default one, or the only one you may export graphs "
        "of, or found by asking Asana for the parent.",
    )


class GraphJobCreate(AsanaBody):
    """An export of a goal, team, portfolio or project and what is below it."""

    model_config = ConfigDict(json_schema_extra={"examples": [GRAPH]})

    data: GraphJobData


def _only_gid_is_certain(schema: JsonDict) -> None:
    schema["required"] = ["gid"]


class JobExportOut(BaseModel):
    """What a job makes. The data are as of between its two moments."""

    model_config = ConfigDict(json_schema_extra=_only_gid_is_certain)

    gid: str = Field(description="Another one than the job's.")
    resource_type: Literal["graph_export", "export_request"]
    created_at: Instant
    completed_at: Instant | None = Field(description="Null while in progress.")
    download_url: str | None = Field(
        description="Where to fetch the file, gzip of JSON Lines, without a key, for an hour from now on; "
        "null until succeeded."
    )


class JobOut(BaseModel):
    """An export as a job of Asana; with `opt_fields`, what these name of it."""

    model_config = ConfigDict(json_schema_extra=_only_gid_is_certain)

    gid: str
    resource_type: Literal["job"] = "job"
    resource_subtype: Literal["graph_export_request", "export_request"]
    status: JobStatus = Field(
        description="`not_started` while it waits in the queue; `failed` also where it was canceled. "
        "`GET /v1/exports` tells why."
    )
    new_graph_export: JobExportOut | None = Field(description="Of a graph export.")
    new_resource_export: JobExportOut | None = Field(description="Of a resource export.")

    @classmethod
    def of(cls, job: Job, download_url: str | None) -> "JobOut":
        is_graph = job.kind is Kind.GRAPH
        made = JobExportOut(
            gid=job.made_gid,
            resource_type="graph_export" if is_graph else "export_request",
            created_at=job.since,
            completed_at=job.to,
            download_url=download_url,
        )
        return cls(
            gid=job.gid,
            resource_subtype="graph_export_request" if is_graph else "export_request",
            status=STATUSES[job.status],
            new_graph_export=made if is_graph else None,
            new_resource_export=None if is_graph else made,
        )


class JobAnswer(BaseModel):
    """A job, where Asana puts it."""

    data: JobOut


@dataclass(frozen=True)
class Look:
    """How an answer is to look: the paths to show, all if there are none, and whether in lines."""

    paths: list[str]
    pretty: bool

    def over(self, options: Options) -> "Look":
        """The same, after the options of a body."""
        wanted = options.fields or self.paths
        paths = split(wanted) if isinstance(wanted, str) else wanted
        return Look(paths, self.pretty or options.pretty)

    def at(self, job: JobOut) -> Json:
        """The answer. A job has one of the two kinds of exports, and says nothing of the other."""
        whole: dict[str, Any] = {
            name: value for name, value in job.model_dump(mode="json").items() if value is not None
        }
        return {"data": pick(whole, parse(self.paths)) if self.paths else whole}


async def look(
    opt_fields: Annotated[
        str,
        Query(
            max_length=MOST_OPT_FIELDS,
            description="Paths to show, separated by commas.",
            examples=["status,new_graph_export.download_url"],
        ),
    ] = "",
    opt_pretty: Annotated[
        bool,
        BeforeValidator(lambda given: given or True),
        Query(description="Let the answer be read by people."),
    ] = False,
) -> Look:
    """What the query says of the answer's look."""
    return Look(split(opt_fields) if opt_fields else [], opt_pretty)


LookQuery = Annotated[Look, Depends(look)]
