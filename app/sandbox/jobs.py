"""Jobs and what becomes of them: nothing runs, a job's state follows from the time it is asked for."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from app.sandbox.dice import between, fraction
from app.sandbox.faults import FaultKind
from app.sandbox.journal import WorkspaceStats
from app.sandbox.recipe import GraphRecipe, Recipe
from app.sandbox.settings import SandboxSettings
from app.sandbox.tokens import Token


class JobKind(StrEnum):
    """The two kinds of exports; the value is the job's `resource_subtype`."""

    GRAPH = "graph_export_request"
    RESOURCE = "export_request"


class JobStatus(StrEnum):
    """What a job may be."""

    NOT_STARTED = "not_started"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass
class Export:
    """The result of a job; a cached one is the result of several."""

    gid: str
    recipe: Recipe
    created_at: float
    completed_at: float
    url_at: float


@dataclass
class Job:
    """A started export."""

    gid: str
    kind: JobKind
    workspace: str
    parent: str | None
    token: str
    starts_at: float
    ends_at: float
    export: Export
    fails: bool = False
    lost: bool = False

    def status(self, now: float) -> JobStatus:
        """The job's status at a time."""
        if now < self.starts_at:
            return JobStatus.NOT_STARTED
        if now < self.ends_at:
            return JobStatus.IN_PROGRESS
        return JobStatus.FAILED if self.fails else JobStatus.SUCCEEDED

    def in_flight(self, now: float) -> bool:
        """Whether the job has not ended yet."""
        return now < self.ends_at

    def end(self, when: float, *, fails: bool) -> None:
        """Let the job end at another time, or never."""
        self.starts_at = min(self.starts_at, when)
        self.ends_at = self.export.completed_at = self.export.url_at = when
        self.fails = fails


@dataclass
class _Lane:
    """The jobs of a workspace that have not ended, and the most there have been."""

    jobs: int = 0
    live: list[Job] = field(default_factory=list)
    most: int = 0
    most_resource: int = 0
    held_until: float = 0.0


class JobBook:
    """All jobs, and who keeps a workspace busy."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)
        self._by_token: defaultdict[str, list[Job]] = defaultdict(list)
        self._cached: dict[tuple[str, str], Job] = {}

    def get(self, gid: str) -> Job | None:
        """The job with this gid."""
        return self._jobs.get(gid)

    def all(self) -> Iterator[Job]:
        """Every job, oldest first."""
        return iter(self._jobs.values())

    def hold(self, workspace: str, until: float = inf) -> None:
        """Let somebody outside keep the workspace busy."""
        self._lanes[workspace].held_until = until

    def release(self, workspace: str) -> None:
        """Let the outsider go."""
        self._lanes[workspace].held_until = 0.0

    def held_until(self, workspace: str, now: float) -> float | None:
        """Until when an outsider keeps the workspace busy."""
        until = self._lanes[workspace].held_until
        return until if until > now else None

    def busy(self, workspace: str, limit: int, now: float) -> bool:
        """Whether the workspace may not start another resource export, whoever asks."""
        running = [job for job in self._live(workspace, now) if job.kind is JobKind.RESOURCE]
        return len(running) >= limit or self.held_until(workspace, now) is not None

    def in_flight_of(self, token: Token, now: float) -> int:
        """How many jobs of the token have not ended."""
        mine = self._by_token[token.name] = [j for j in self._by_token[token.name] if j.in_flight(now)]
        return len(mine)

    def same_graph(self, token: Token, parent: str, now: float) -> Job | None:
        """The user's graph export of this parent that is still in flight."""
        self.in_flight_of(token, now)
        running = (j for j in self._by_token[token.name] if j.kind is JobKind.GRAPH and not j.lost)
        return next((job for job in running if job.parent == parent), None)

    def cached_graph(self, token: Token, parent: str, settings: SandboxSettings, now: float) -> Job | None:
        """The user's finished export of this parent whose result is still cached."""
        job = self._cached.get((token.name, parent))
        if job is None or job.status(now) is not JobStatus.SUCCEEDED or job.lost:
            return None
        return job if now < job.ends_at + settings.graph_cache_seconds else None

    def start(
        self, token: Token, recipe: Recipe, settings: SandboxSettings, now: float, fault: FaultKind | None
    ) -> Job:
        """Start a job; how long it takes and whether it fails follow from the seed and its number."""
        spec, number = recipe.workspace, len(self._jobs) + 1
        starts_at = now + between(settings.start_seconds, settings.seed, number, 1)
        ends_at = starts_at + between(spec.run_seconds or settings.run_seconds, settings.seed, number, 2)
        url_at = ends_at + between(settings.url_seconds, settings.seed, number, 3)
        export = Export(f"13{number:010d}", recipe, recipe.as_of, ends_at, url_at)
        job = self._job(token, export, starts_at, ends_at)
        job.fails = fraction(settings.seed, number, 4) < settings.failure_rate
        if fault is FaultKind.JOB_FAILS:
            job.fails = True
        elif fault is FaultKind.JOB_NEVER_ENDS:
            job.end(inf, fails=False)
        job.lost = fault is FaultKind.JOB_LOST
        if isinstance(recipe, GraphRecipe) and recipe.parent.tasks() > settings.graph_cache_above:
            self._cached[token.name, recipe.parent.gid] = job
        self._keep(job, now)
        return job

    def start_cached(self, token: Token, cached: Job, now: float) -> Job:
        """A job of its own for a cached result: done as soon as asked for."""
        job = self._job(token, cached.export, now, now)
        self._keep(job, now)
        return job

    def stats(self, now: float) -> dict[str, WorkspaceStats]:
        """How busy each workspace is and has been."""
        return {
            gid: WorkspaceStats(
                jobs=lane.jobs,
                in_progress=len(self._live(gid, now)),
                max_in_progress=lane.most,
                max_resource_in_progress=lane.most_resource,
            )
            for gid, lane in self._lanes.items()
        }

    def _job(self, token: Token, export: Export, starts_at: float, ends_at: float) -> Job:
        parent = export.recipe.parent.gid if isinstance(export.recipe, GraphRecipe) else None
        return Job(
            gid=f"12{len(self._jobs) + 1:010d}",
            kind=JobKind.GRAPH if parent else JobKind.RESOURCE,
            workspace=export.recipe.workspace.gid,
            parent=parent,
            token=token.name,
            starts_at=starts_at,
            ends_at=ends_at,
            export=export,
        )

    def _keep(self, job: Job, now: float) -> None:
        self._jobs[job.gid] = job
        self._by_token[job.token].append(job)
        lane, live = self._lanes[job.workspace], self._live(job.workspace, now)
        lane.jobs += 1
        if job.in_flight(now):
            live.append(job)
        lane.most = max(lane.most, len(live))
        lane.most_resource = max(lane.most_resource, sum(j.kind is JobKind.RESOURCE for j in live))

    def _live(self, workspace: str, now: float) -> list[Job]:
        # Time never goes back, so what has ended can be forgotten here.
        lane = self._lanes[workspace]
        lane.live = [job for job in lane.live if job.in_flight(now)]
        return lane.live
