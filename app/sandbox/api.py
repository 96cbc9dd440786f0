"""The part of Asana's API that exports need."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from app.opt_fields import parse, pick, split
from app.sandbox import exportrequests
from app.sandbox.cast import cast_of, workspace_name
from app.sandbox.clock import timestamp
from app.sandbox.exchange import AsanaRoute, as_json, exchange_of, fault_of, sandbox_of
from app.sandbox.faults import FaultKind
from app.sandbox.files import mint
from app.sandbox.jobs import Job, JobKind, JobStatus
from app.sandbox.refusals import Refused, forbidden, unknown
from app.sandbox.settings import WorkspaceSpec
from app.sandbox.tokens import Token, TokenKind
from app.sandbox.world import Kind, find_parent

router = APIRouter(prefix="/api/1.0", route_class=AsanaRoute, tags=["Asana"])
nothing_here = APIRouter(route_class=AsanaRoute, include_in_schema=False)

RESULT_FIELDS = ("new_task", "new_project", "new_portfolio", "new_project_template")


def authenticated(request: Request) -> Token:
    """The caller's token, with the request counted against its quota."""
    sandbox = sandbox_of(request)
    token = sandbox.tokens.authenticate(request.headers.get("authorization"))
    wait = sandbox.rates.count(token, sandbox.settings.requests_per_minute, sandbox.now())
    if wait is not None:
        # Never zero: that would invite the client to come back at once.
        raise Refused(429, retry_after=max(1, round(sandbox.clock.in_real_seconds(wait))))
    return token


Caller = Annotated[Token, Depends(authenticated)]


@router.post("/exports/graph", name="graph", status_code=201)
async def create_graph_export(request: Request, token: Caller) -> Response:
    """Export what is below a goal, project, portfolio or team; a repeated request joins the running job."""
    sandbox = sandbox_of(request)
    data, options = exportrequests.read_body(await request.body())
    parent = exportrequests.read_parent(data, sandbox.settings.workspaces)
    token.enter(parent.spec.gid, "parent")
    now = sandbox.now()
    job = sandbox.jobs.same_graph(token, parent.gid, now)
    if job is None and (cached := sandbox.jobs.cached_graph(token, parent.gid, sandbox.settings, now)):
        same = sandbox.settings.cached_graph_job == "same"
        job = cached if same else sandbox.jobs.start_cached(token, cached, now)
    if job is None:
        _leave_room(request, token)
        recipe = sandbox.graph_recipe(token, parent)
        job = sandbox.jobs.start(token, recipe, sandbox.settings, now, _fault_kind(request))
    return _created(request, job, options)


@router.post("/exports/resource", name="resource", status_code=201)
async def create_resource_export(request: Request, token: Caller) -> Response:
    """Export the tasks, teams or messages of a workspace: service accounts only, and one at a time."""
    sandbox = sandbox_of(request)
    data, options = exportrequests.read_body(await request.body())
    spec = exportrequests.read_workspace(data, sandbox.settings.workspaces)
    items = exportrequests.read_items(data, sandbox.settings)
    if token.kind is not TokenKind.SERVICE_ACCOUNT:
        raise forbidden("workspace")
    token.enter(spec.gid)
    now = sandbox.now()
    if sandbox.jobs.busy(spec.gid, sandbox.settings.resource_exports_per_workspace, now):
        raise Refused(403, sandbox.settings.busy_message)
    _leave_room(request, token)
    recipe = sandbox.resource_recipe(token, spec, items)
    return _created(
        request, sandbox.jobs.start(token, recipe, sandbox.settings, now, _fault_kind(request)), options
    )


@router.get("/jobs/{gid}", name="job")
async def get_job(request: Request, gid: str, token: Caller) -> Response:
    """A job, with a fresh download URL once it has succeeded."""
    sandbox = sandbox_of(request)
    now, policy = sandbox.now(), sandbox.settings.foreign_job
    job = sandbox.jobs.get(gid)
    if job is None or job.lost or _fault_kind(request) is FaultKind.JOB_LOST:
        raise unknown("job", gid)
    if job.token != token.name and policy != "visible":
        raise forbidden("job") if policy == "forbidden" else unknown("job", gid)
    if _file_gone(request, job) and sandbox.settings.expired_file == "job_not_found":
        raise unknown("job", gid)
    if job.in_flight(now) and _fault_kind(request) is FaultKind.JOB_FAILS:
        job.end(now, fails=True)
    elif job.in_flight(now) and _fault_kind(request) is FaultKind.JOB_NEVER_ENDS:
        job.end(float("inf"), fails=False)
    return _shown(request, {**_job(request, job), **dict.fromkeys(RESULT_FIELDS)}, job=job)


@router.get("/users/me", name="me")
async def get_me(request: Request, token: Caller) -> Response:
    """The caller and its workspaces."""
    specs = sandbox_of(request).settings.workspaces.values()
    mine = [spec for spec in specs if token.workspaces is None or spec.gid in token.workspaces]
    me = {
        "gid": "1100",
        "resource_type": "user",
        "name": token.name,
        "email": f"{token.name}@sandbox.example",
        "photo": None,
        "workspaces": [
            {"gid": spec.gid, "resource_type": "workspace", "name": workspace_name(spec)} for spec in mine
        ],
    }
    return _shown(request, me)


@router.get("/workspaces/{gid}", name="workspace")
async def get_workspace(request: Request, gid: str, token: Caller) -> Response:
    """A workspace."""
    sandbox = sandbox_of(request)
    spec: WorkspaceSpec | None = sandbox.settings.workspaces.get(gid)
    if spec is None:
        raise unknown("workspace", gid)
    token.enter(gid)
    workspace = cast_of(sandbox.settings.seed, spec).workspace
    return _shown(request, {**workspace, "email_domains": ["sandbox.example"], "is_organization": True})


@router.get("/projects/{gid}", name="parent")
@router.get("/portfolios/{gid}", name="parent")
@router.get("/teams/{gid}", name="parent")
@router.get("/goals/{gid}", name="parent")
async def get_parent(request: Request, gid: str, token: Caller) -> Response:
    """What a graph export may start from, with the workspace it is in."""
    sandbox = sandbox_of(request)
    kind = request.url.path.split("/")[-2].removesuffix("s")
    parent = find_parent(sandbox.settings.workspaces, gid)
    if parent is None or parent.kind.name.lower() != kind:
        raise unknown(kind, gid)
    token.enter(parent.spec.gid, kind)
    place = "organization" if parent.kind is Kind.TEAM else "workspace"
    workspace = cast_of(sandbox.settings.seed, parent.spec).workspace
    return _shown(request, {"gid": gid, "resource_type": kind, "name": f"{kind} {gid}", place: workspace})


@nothing_here.api_route(
    "/{path:path}", name="other", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
)
async def no_route(path: str) -> Response:
    """Anything else."""
    raise Refused(404, "No matching route")


def _leave_room(request: Request, token: Token) -> None:
    sandbox = sandbox_of(request)
    limit = sandbox.settings.concurrent_jobs
    if limit is not None and sandbox.jobs.in_flight_of(token, sandbox.now()) >= limit:
        raise Refused(429, retry_after=sandbox.settings.concurrent_jobs_retry_after)


def _fault_kind(request: Request) -> FaultKind | None:
    fault = fault_of(request)
    return fault.kind if fault else None


def _file_gone(request: Request, job: Job) -> bool:
    sandbox = sandbox_of(request)
    return sandbox.now() >= job.export.completed_at + sandbox.settings.file_lifetime


def _job(request: Request, job: Job) -> dict[str, Any]:
    sandbox = sandbox_of(request)
    now, export = sandbox.now(), job.export
    status, url = job.status(now), None
    if status is JobStatus.SUCCEEDED and sandbox.has_file(job):
        sandbox.spool.begin(export.gid, export.recipe, sandbox.settings.spool_files)
        url = mint(request, job, expired=_fault_kind(request) is FaultKind.EXPIRE_URL)
    graph = job.kind is JobKind.GRAPH
    return {
        "gid": job.gid,
        "resource_type": "job",
        "resource_subtype": job.kind,
        "status": status,
        "new_graph_export" if graph else "new_resource_export": {
            "gid": export.gid,
            "resource_type": "graph_export" if graph else "export_request",
            "created_at": timestamp(export.created_at),
            "completed_at": None if job.in_flight(now) else timestamp(export.completed_at),
            "download_url": url,
        },
    }


def _created(request: Request, job: Job, options: dict[str, Any]) -> Response:
    exchange_of(request).job = job.gid
    return _shown(request, _job(request, job), job=job, options=options, status=201)


def _shown(
    request: Request,
    value: dict[str, Any],
    *,
    job: Job | None = None,
    options: dict[str, Any] | None = None,
    status: int = 200,
) -> Response:
    """The object with the fields asked for, in the query or in the body's `options`."""
    options, query = options or {}, request.query_params
    wanted = options.get("fields") or query.get("opt_fields") or ()
    paths = split(wanted) if isinstance(wanted, str) else [str(path) for path in wanted]
    pretty = options.get("pretty") is True or query.get("opt_pretty", "false").lower() in ("true", "1", "")
    if paths:
        value = pick(value, parse(paths))
    elif job and not sandbox_of(request).settings.url_in_bare_job:
        value = {key: _without_url(part) for key, part in value.items()}
    headers = {"Location": f"/api/1.0/jobs/{job.gid}"} if job and status == 201 else {}
    return as_json({"data": value}, status, headers, pretty=pretty)


def _without_url(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {key: value for key, value in part.items() if key != "download_url"}
