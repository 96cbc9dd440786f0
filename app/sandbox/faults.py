"""Things that go wrong on demand."""

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.sandbox.settings import Gid


class Call(StrEnum):
    """The calls of the stand-in, as faults and the journal name them."""

    GRAPH = "graph"
    RESOURCE = "resource"
    JOB = "job"
    FILE = "file"
    ME = "me"
    WORKSPACE = "workspace"
    PARENT = "parent"
    OTHER = "other"


class FaultKind(StrEnum):
    """What can go wrong."""

    STATUS = "status"
    """Answer `status`, with `retry_after` if given, instead of doing the work."""
    DELAY = "delay"
    """Only wait `delay` real seconds first; every other kind waits too when `delay` is set."""
    DROP_BEFORE = "drop_before"
    """Close the connection without doing the work."""
    DROP_AFTER = "drop_after"
    """Do the work, then close the connection without an answer: the lost 201."""
    WRONG_CONTENT = "wrong_content"
    """Answer 200 with an HTML page."""
    TRUNCATE = "truncate"
    """Send a `fraction` of the body, then close the connection."""
    TRUNCATE_FILE = "truncate_file"
    """Serve a `fraction` of the file as if it were all of it."""
    BITFLIP = "bitflip"
    """Serve the file with one bit flipped, at `fraction` of its length."""
    NOT_JSON_LINES = "not_json_lines"
    """Serve a sound gzip file of something else."""
    EXPIRE_URL = "expire_url"
    """On `job`, hand out a download URL that has already expired; on `file`, answer as if it had."""
    JOB_FAILS = "job_fails"
    """The job ends as `failed`: when its time comes if given on creation, at once if given on `job`."""
    JOB_NEVER_ENDS = "job_never_ends"
    """The job stays `in_progress`."""
    JOB_LOST = "job_lost"
    """The job is not found: for good if given on creation, for this once if given on `job`."""


_STARTS = {Call.GRAPH, Call.RESOURCE}
CALLS_OF_KIND = {
    FaultKind.TRUNCATE_FILE: {Call.FILE},
    FaultKind.BITFLIP: {Call.FILE},
    FaultKind.NOT_JSON_LINES: {Call.FILE},
    FaultKind.EXPIRE_URL: {Call.JOB, Call.FILE},
    FaultKind.JOB_FAILS: _STARTS | {Call.JOB},
    FaultKind.JOB_NEVER_ENDS: _STARTS | {Call.JOB},
    FaultKind.JOB_LOST: _STARTS | {Call.JOB},
}


class Fault(BaseModel):
    """One thing to go wrong, on which calls and how often."""

    model_config = ConfigDict(extra="forbid")

    call: Call
    kind: FaultKind
    times: int | None = Field(1, ge=1, description="How many calls it hits; all of them, when null.")
    after: int = Field(0, ge=0, description="How many matching calls pass unharmed first.")
    workspace: Gid | None = Field(None, description="Only calls about this workspace.")
    status: int = Field(500, ge=300, le=599)
    message: str | None = None
    retry_after: float | None = None
    delay: float = Field(0.0, ge=0, description="Real seconds to wait first.")
    fraction: float = Field(0.7, ge=0, le=1)

    @model_validator(mode="after")
    def _fits_the_call(self) -> Self:
        if self.call not in CALLS_OF_KIND.get(self.kind, set(Call)):
            raise ValueError(f"{self.kind} cannot happen on {self.call}")
        return self

    def hits(self, call: Call, workspace: str | None) -> bool:
        """Whether this fault is about such a call."""
        return self.call is call and self.workspace in (None, workspace)


class Faults:
    """The faults in wait, each used up as it happens."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault in wait, behind the others."""
        self._waiting.append(fault.model_copy())

    def waiting(self) -> list[Fault]:
        """What is still to happen; `times` and `after` are what is left of them."""
        return list(self._waiting)

    def clear(self) -> None:
        """Forget all faults."""
        self._waiting.clear()

    def take(self, call: Call, workspace: str | None) -> Fault | None:
        """The fault that hits this call: the first that matches, unless it lets this one pass."""
        for fault in self._waiting:
            if not fault.hits(call, workspace):
                continue
            if fault.after:
                fault.after -= 1
                continue
            if fault.times is not None:
                fault.times -= 1
                if not fault.times:
                    self._waiting.remove(fault)
            return fault
        return None
