"""What Asana answers, read with patience: unknown fields are ignored, missing ones borne."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class JobStatus(StrEnum):
    """Where a job stands; `UNKNOWN` is any status this client was not written for, taken as in progress."""

    NOT_STARTED = "not_started"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> "JobStatus":
        return cls.UNKNOWN


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ExportFile(Answer):
    """The export a job makes. `download_url` comes with success and soon expires; the job gives a new one."""

    gid: str
    created_at: datetime | None = None
    completed_at: datetime | None = None
    download_url: str | None = Field(None, repr=False)


class Job(Answer):
    """A job at Asana. A failed one carries no reason."""

    gid: str
    raw_status: str = Field(validation_alias="status")
    new_resource_export: ExportFile | None = None
    new_graph_export: ExportFile | None = None

    @property
    def status(self) -> JobStatus:
        return JobStatus(self.raw_status)

    @property
    def export(self) -> ExportFile | None:
        """Whichever export the job makes."""
        return self.new_resource_export or self.new_graph_export


class User(Answer):
    gid: str
    name: str = ""


class Workspace(Answer):
    gid: str
    name: str = ""


class Placed(Answer):
    """Something that is in a workspace; of a team Asana says `organization`."""

    workspace: Workspace | None = None
    organization: Workspace | None = None
