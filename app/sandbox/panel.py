"""The control panel: how tests and demonstrations steer the stand-in. No token, no journal, no faults."""

from datetime import datetime
from math import inf
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from app.sandbox.clock import timestamp
from app.sandbox.exchange import sandbox_of
from app.sandbox.faults import Call, Fault
from app.sandbox.jobs import Job
from app.sandbox.journal import JournalEntry, Stats
from app.sandbox.settings import SandboxSettings, Seconds, WorkspaceSpec
from app.sandbox.state import Sandbox
from app.sandbox.tokens import Token, TokenView

router = APIRouter(prefix="/_sandbox", tags=["Control"])

State = Annotated[Sandbox, Depends(sandbox_of)]


class ClockView(BaseModel):
    """The virtual time."""

    now: datetime
    time_scale: float


class Advance(BaseModel):
    """How far to jump ahead."""

    seconds: Seconds


class Hold(BaseModel):
    """For how long an outsider keeps the workspace busy; until released, when null."""

    seconds: Seconds | None = None


class JobEnd(BaseModel):
    """How a job is to end."""

    status: Literal["succeeded", "failed"] = "succeeded"


class JobView(BaseModel):
    """A job as the stand-in knows it; `ends_at` is null for one that never ends."""

    gid: str
    kind: Literal["graph", "resource"]
    status: str
    workspace: str
    parent: str | None
    token: str
    created_at: datetime
    ends_at: datetime | None


class WorkspaceView(WorkspaceSpec):
    """A workspace, and until when an outsider holds it."""

    held: bool = Field(False)
    held_until: datetime | None = None


@router.get("/settings")
async def get_settings(sandbox: State) -> SandboxSettings:
    """All settings."""
    return sandbox.settings


@router.patch("/settings")
async def patch_settings(changes: dict[str, Any], sandbox: State) -> SandboxSettings:
    """Change some settings. Jobs keep the times they started with."""
    try:
        return sandbox.change(changes)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_context=False)) from None


@router.get("/clock")
async def get_clock(sandbox: State) -> ClockView:
    """The virtual time."""
    return ClockView(now=_moment(sandbox.now()), time_scale=sandbox.clock.scale)


@router.post("/clock/advance")
async def advance(jump: Advance, sandbox: State) -> ClockView:
    """Jump ahead in virtual time."""
    sandbox.clock.advance(jump.seconds)
    return await get_clock(sandbox)


@router.get("/tokens")
async def list_tokens(sandbox: State) -> list[TokenView]:
    """The accepted tokens by name, without their secrets."""
    return sandbox.tokens.views()


@router.post("/tokens", status_code=201)
async def add_token(token: Token, sandbox: State) -> TokenView:
    """Accept a token. Tokens of one name are one account: they share jobs, caches and quota."""
    sandbox.tokens.add(token)
    return TokenView.model_validate(token.model_dump(exclude={"token"}))


@router.delete("/tokens/{name}", status_code=204)
async def revoke_token(name: str, sandbox: State) -> None:
    """Answer 401 to the tokens of this name from now on."""
    if not sandbox.tokens.revoke(name):
        raise HTTPException(404, f"no token is called {name}")


@router.get("/workspaces")
async def list_workspaces(sandbox: State) -> list[WorkspaceView]:
    """All workspaces with their sizes."""
    return [_workspace(sandbox, spec) for spec in sandbox.settings.workspaces.values()]


@router.put("/workspaces/{gid}")
async def put_workspace(gid: str, changes: dict[str, Any], sandbox: State) -> WorkspaceView:
    """Add a workspace, or change some of what there is in it."""
    known = sandbox.settings.workspaces.get(gid)
    try:
        spec = WorkspaceSpec.model_validate({**(known.model_dump() if known else {}), **changes, "gid": gid})
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_context=False)) from None
    sandbox.put_workspace(spec)
    return _workspace(sandbox, spec)


@router.put("/workspaces/{gid}/hold")
async def hold_slot(gid: str, hold: Hold, sandbox: State) -> WorkspaceView:
    """Let somebody outside keep the workspace's export slot, also behind a job that has it now."""
    spec = _known(sandbox, gid)
    sandbox.jobs.hold(gid, inf if hold.seconds is None else sandbox.now() + hold.seconds)
    return _workspace(sandbox, spec)


@router.delete("/workspaces/{gid}/hold", status_code=204)
async def release_slot(gid: str, sandbox: State) -> None:
    """Let the outsider go."""
    _known(sandbox, gid)
    sandbox.jobs.release(gid)


@router.get("/jobs")
async def list_jobs(sandbox: State, workspace: str | None = None) -> list[JobView]:
    """All jobs ever started, oldest first."""
    return [_job(sandbox, job) for job in sandbox.jobs.all() if workspace in (None, job.workspace)]


@router.post("/jobs/{gid}/end")
async def end_job(gid: str, end: JobEnd, sandbox: State) -> JobView:
    """End a running job now, this way or that."""
    job = sandbox.jobs.get(gid)
    if job is None:
        raise HTTPException(404, f"no job {gid}")
    if not job.in_flight(sandbox.now()):
        raise HTTPException(409, f"job {gid} has ended already")
    job.end(sandbox.now(), fails=end.status == "failed")
    return _job(sandbox, job)


@router.get("/faults")
async def list_faults(sandbox: State) -> list[Fault]:
    """The faults still to happen."""
    return sandbox.faults.waiting()


@router.post("/faults", status_code=201)
async def add_fault(fault: Fault, sandbox: State) -> Fault:
    """Let something go wrong."""
    sandbox.faults.add(fault)
    return fault


@router.delete("/faults", status_code=204)
async def clear_faults(sandbox: State) -> None:
    """Forget all faults."""
    sandbox.faults.clear()


@router.get("/journal")
async def get_journal(
    sandbox: State,
    after: Annotated[int, Query(ge=0)] = 0,
    workspace: str | None = None,
    call: Call | None = None,
) -> list[JournalEntry]:
    """What was asked and answered, oldest first."""
    return sandbox.journal.entries(after, workspace, call)


@router.get("/stats")
async def get_stats(sandbox: State) -> Stats:
    """Counts of requests by status, and how many jobs each workspace has had at the same time."""
    return sandbox.stats()


@router.post("/reset", status_code=204)
async def reset(request: Request) -> None:
    """Forget everything and start again with the settings of the start."""
    sandbox_of(request).reset()


def _moment(seconds: float) -> datetime:
    return datetime.fromisoformat(timestamp(seconds))


def _known(sandbox: Sandbox, gid: str) -> WorkspaceSpec:
    spec = sandbox.settings.workspaces.get(gid)
    if spec is None:
        raise HTTPException(404, f"no workspace {gid}")
    return spec


def _workspace(sandbox: Sandbox, spec: WorkspaceSpec) -> WorkspaceView:
    until = sandbox.jobs.held_until(spec.gid, sandbox.now())
    moment = None if until is None or until == inf else _moment(until)
    return WorkspaceView(**spec.model_dump(), held=until is not None, held_until=moment)


def _job(sandbox: Sandbox, job: Job) -> JobView:
    return JobView(
        gid=job.gid,
        kind="graph" if job.parent else "resource",
        status=job.status(sandbox.now()),
        workspace=job.workspace,
        parent=job.parent,
        token=job.token,
        created_at=_moment(job.export.created_at),
        ends_at=None if job.ends_at == inf else _moment(job.ends_at),
    )
