"""What was asked and answered, and how busy each workspace has been."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from app.sandbox.clock import timestamp
from app.sandbox.faults import Call, FaultKind


class JournalEntry(BaseModel):
    """One request and its answer."""

    number: int
    virtual_time: datetime
    real_time: datetime
    method: str
    path: str
    call: Call
    token: str | None = Field(description="The token's name; null for none or an unknown one.")
    workspace: str | None
    parent: str | None
    job: str | None
    status: int | None = Field(description="Null when the connection was closed without an answer.")
    fault: FaultKind | None


class WorkspaceStats(BaseModel):
    """Counts of one workspace."""

    jobs: int = 0
    in_progress: int = 0
    max_in_progress: int = Field(0, description="Most jobs, of both kinds, ever in flight at the same time.")
    max_resource_in_progress: int = 0
    statuses: dict[str, int] = Field({}, description="Answers by status code; `dropped` for none.")
    calls: dict[str, int] = {}


class Stats(BaseModel):
    """Counts of everything since the start or the last reset."""

    requests: int
    statuses: dict[str, int]
    calls: dict[str, int]
    workspaces: dict[str, WorkspaceStats]


@dataclass
class Exchange:
    """What becomes known of a request while it is handled."""

    call: Call
    method: str
    path: str
    workspace: str | None = None
    parent: str | None = None
    job: str | None = None
    token: str | None = None
    fault: FaultKind | None = None


@dataclass
class _Counts:
    statuses: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)

    def add(self, status: str, call: Call) -> None:
        self.statuses[status] += 1
        self.calls[call] += 1


class Journal:
    """The newest requests in full, and counts of all of them."""

    def __init__(self, entries: int) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=entries)
        self._all = _Counts()
        self._by_workspace: defaultdict[str, _Counts] = defaultdict(_Counts)
        self.requests = 0

    def record(self, exchange: Exchange, status: int | None, now: float) -> None:
        """Write down how a request ended."""
        self.requests += 1
        answer = "dropped" if status is None else str(status)
        self._all.add(answer, exchange.call)
        if exchange.workspace is not None:
            self._by_workspace[exchange.workspace].add(answer, exchange.call)
        self._entries.append(
            JournalEntry(
                number=self.requests,
                virtual_time=datetime.fromisoformat(timestamp(now)),
                real_time=datetime.now(UTC),
                status=status,
                **vars(exchange),
            )
        )

    def entries(
        self, after: int = 0, workspace: str | None = None, call: Call | None = None
    ) -> list[JournalEntry]:
        """The entries behind a number, oldest first."""
        return [
            entry
            for entry in self._entries
            if entry.number > after and workspace in (None, entry.workspace) and call in (None, entry.call)
        ]

    def stats(self, of_jobs: dict[str, WorkspaceStats]) -> Stats:
        """All counts, those of jobs handed in."""
        for gid, counts in self._by_workspace.items():
            workspace = of_jobs.setdefault(gid, WorkspaceStats())
            workspace.statuses, workspace.calls = dict(counts.statuses), dict(counts.calls)
        return Stats(
            requests=self.requests,
            statuses=dict(self._all.statuses),
            calls=dict(self._all.calls),
            workspaces=dict(sorted(of_jobs.items())),
        )
