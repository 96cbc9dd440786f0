"""What can be set about the stand-in, at its start and while it runs."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _low_to_high(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not 0 <= low <= high:
        raise ValueError("must be two numbers, the lower one first")
    return bounds


def _in_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


Seconds = Annotated[float, Field(ge=0)]
SecondsRange = Annotated[tuple[float, float], AfterValidator(_low_to_high)]
Gid = Annotated[str, Field(pattern=r"^[0-9]{1,20}$")]


class WorkspaceSpec(BaseModel):
    """A workspace and how much there is in it; the gids inside follow from its own, see `world`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gid: Gid
    name: str = ""
    tasks: int = Field(default=240, ge=0)
    messages: int = Field(default=40, ge=0)
    teams: int = Field(default=3, ge=1, le=999)
    projects: int = Field(default=6, ge=1, le=999)
    portfolios: int = Field(default=2, ge=1, le=999)
    goals: int = Field(default=1, ge=1, le=999)
    users: int = Field(default=12, ge=1, le=999)
    parents: dict[Gid, Annotated[int, Field(ge=0)]] = {}
    """Tasks under a parent, where they are not to follow from `tasks`."""
    run_seconds: SecondsRange | None = None
    """How long jobs run here, where it is not as everywhere."""


def default_workspaces() -> dict[str, WorkspaceSpec]:
    """The workspaces 1001 to 1005."""
    return {gid: WorkspaceSpec(gid=gid) for gid in map(str, range(1001, 1006))}


class SandboxSettings(BaseModel):
    """Everything that can be set. Seconds are virtual ones unless said otherwise."""

    model_config = ConfigDict(extra="forbid")

    seed: int = 7
    workspaces: dict[Gid, WorkspaceSpec] = Field(default_factory=default_workspaces)

    time_scale: float = Field(default=1.0, ge=0)
    """Virtual seconds in a real one. Zero stops the clock: then it moves by `advance` only."""
    starts_at: Annotated[datetime, AfterValidator(_in_utc)] | None = None
    """Virtual time at the start; now, when not given. Files are the same bytes only if this is the same."""
    public_url: str | None = None
    """Where download URLs point to; the address the client used, when not given."""

    start_seconds: SecondsRange = (1.0, 5.0)
    """How long a job is `not_started`."""
    run_seconds: SecondsRange = (60.0, 300.0)
    """How long a job is `in_progress`."""
    url_seconds: SecondsRange = (0.0, 0.0)
    """How long a job is `succeeded` without a download URL."""
    failure_rate: float = Field(default=0.0, ge=0, le=1)

    url_lifetime: Seconds = 3600.0
    file_lifetime: Seconds = 30 * 86400.0
    expired_file: Literal["null_url", "job_not_found"] = "null_url"
    """What a job answers once its file is gone."""

    requests_per_minute: int | None = Field(default=1500, ge=1)
    """Per token; refused requests count too. None for no limit."""
    concurrent_jobs: int | None = Field(default=5, ge=1)
    """Jobs in flight per token, of both kinds; above it 429. None for no limit."""
    concurrent_jobs_retry_after: int = Field(default=30, ge=0)
    resource_exports_per_workspace: int = Field(default=1, ge=1)
    busy_message: str = "workspace: Forbidden"
    """What the 403 says when a workspace is busy; by default the same as when access is missing."""

    graph_cache_above: int = Field(default=1000, ge=0)
    graph_cache_seconds: Seconds = 4 * 3600.0
    cached_graph_job: Literal["new", "same"] = "new"
    """Whether a cached graph export comes with a job of its own or with the job that made it."""

    foreign_job: Literal["not_found", "forbidden", "visible"] = "not_found"
    """What a job looks like to a token that did not create it."""
    url_in_bare_job: bool = True
    """Whether a job shows its download URL without `opt_fields`."""
    strict_filters: bool = True
    """Refuse filters on teams, task filters on messages and unknown filters; else they are ignored."""
    inclusive_bounds: bool = False
    """Whether `after` and `before` include the very instant."""
    flat_graph_lines: bool = False
    """Graph lines with dotted keys instead of nested objects."""

    spool_files: int = Field(default=1000, ge=1)
    """Files kept on disk; others are made anew when asked for, with the same bytes."""
    journal_entries: int = Field(default=50_000, ge=0)

    def patched(self, changes: dict[str, object]) -> "SandboxSettings":
        """These settings with some of them changed, checked as a whole."""
        return SandboxSettings.model_validate({**self.model_dump(), **changes})
