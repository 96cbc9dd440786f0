"""Asking for exports and following them."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import Field

from app.access.models import Client, Kind
from app.api.auth import ExportsReader, ExportsWriter
from app.api.bodies import AnyExportCreate, ExportCreate, GraphExportCreate, ResourceExportCreate
from app.api.idempotency import IdempotencyKey, made_once
from app.api.ids import ExportIdPath
from app.api.paging import PageQuery, last_seen, name_next_page, page_token
from app.api.problems import ON_BODY, ON_CALL, ON_KEY, problems
from app.api.rate_limit import Allowance, tell
from app.api.request_id import request_id
from app.api.schemas import ExportOut, ExportPage, PlanOut, Timeline
from app.api.services import Services, ServicesOf
from app.api.waiting import NOT_MODIFIED, IfNoneMatch, WaitSeconds, etag_of, matches, retry_after
from app.clock import woken_within
from app.database.base import Json
from app.exports.accept import Submission, accept
from app.exports.cancel import cancel
from app.exports.estimates import Estimate
from app.exports.models import Status
from app.exports.plan import estimate_of, plan
from app.exports.quotas import quotas_for
from app.exports.reading import (
    ExportFilter,
    ExportView,
    export_view,
    export_views,
    timeline,
    visible_export,
)
from app.exports.requests import Gid, Moment, stored_request
from app.exports.states import FINAL
from app.ids import ExportId, ScheduleId
from app.problems import Code, ProblemError

router = APIRouter(prefix="/v1/exports", tags=["exports"])


class ExportListQuery(PageQuery):
    """Which exports to list."""

    workspace: Gid | None = None
    status: Status | None = None
    kind: Kind | None = None
    label: str | None = Field(
        None, pattern=r"^[^:\x00]+:[^\x00]*$", description="`name:value`", examples=["team:bi"]
    )
    created_after: Moment | None = None
    schedule: str | None = Field(
        None, pattern=r"^sch_[0-9a-f]{32}$", examples=["sch_01997d3c5b7d7e3f8a1b2c3d4e5f6078"]
    )

    def wanted(self) -> ExportFilter:
        name, colon, value = (self.label or "").partition(":")
        return ExportFilter(
            self.workspace,
            self.status,
            self.kind,
            (name, value) if colon else None,
            self.created_after,
            ScheduleId(self.schedule) if self.schedule else None,
        )


ON_SUBMIT_CODES = (
    *ON_BODY,
    *ON_KEY,
    Code.QUOTA_EXCEEDED,
    Code.QUEUE_FULL,
    Code.LANE_DRAINING,
)
ON_SUBMIT = problems(*ON_SUBMIT_CODES)
CANCELING: dict[int | str, dict[str, Any]] = {
    202: {"model": ExportOut, "description": "Canceling: its job at Asana has not ended yet."}
}


@router.post("/resource", status_code=status.HTTP_202_ACCEPTED, responses=ON_SUBMIT)
async def create_resource_export(
    body: ResourceExportCreate,
    client: ExportsWriter,
    services: ServicesOf,
    response: Response,
    key: IdempotencyKey,
) -> ExportOut:
    """Queue a bulk export of a workspace's tasks, teams or messages.

    Asana runs one export per workspace at a time; this one waits for its turn and then runs by itself.
    """
    return await _submit(services, client, body, key, response)


@router.post("/graph", status_code=status.HTTP_202_ACCEPTED, responses=ON_SUBMIT)
async def create_graph_export(
    body: GraphExportCreate,
    client: ExportsWriter,
    services: ServicesOf,
    response: Response,
    key: IdempotencyKey,
) -> ExportOut:
    """Queue an export of a goal, team, portfolio or project and what is below it.

    It waits for the workspace's turn and then runs by itself.
    """
    return await _submit(services, client, body, key, response)


@router.post("/plan", responses=problems(*ON_BODY, Code.QUOTA_EXCEEDED, Code.QUEUE_FULL, Code.LANE_DRAINING))
async def plan_export(body: AnyExportCreate, client: ExportsReader, services: ServicesOf) -> PlanOut:
    """Tell what would become of an export if it were asked for now; nothing is written.

    The body is that of a resource or of a graph export, and is refused for the same faults.
    """
    async with services.reads() as session:
        return PlanOut.of(await plan(session, client, body.submission(body, request_id()), services.rules))


@router.get("", responses=problems(*ON_CALL, Code.BAD_PAGE_TOKEN))
async def list_exports(
    client: ExportsReader,
    services: ServicesOf,
    query: Annotated[ExportListQuery, Query()],
    request: Request,
    response: Response,
) -> ExportPage:
    """Your exports, the newest first; an administrator sees everybody's."""
    before = last_seen(query.page_token)
    async with services.reads() as session:
        views = await export_views(session, client, query.wanted(), before=before, most=query.page_size + 1)
    shown = views[: query.page_size]
    following = page_token(shown[-1].export.id) if len(views) > query.page_size else None
    name_next_page(request, response, following)
    return ExportPage(items=[ExportOut.of(view) for view in shown], next_page_token=following)


@router.get("/{export_id}", response_model=ExportOut, responses=problems(*ON_CALL) | NOT_MODIFIED)
async def get_export(
    client: ExportsReader,
    export_id: ExportIdPath,
    services: ServicesOf,
    response: Response,
    wait: WaitSeconds,
    seen: IfNoneMatch = None,
) -> ExportOut | Response:
    """An export as it is now; 200 also for a failed one, whose `error` tells why.

    With `Prefer: wait=N` the answer comes when the export has ended or, with `If-None-Match`, at its first
    change, but after N seconds at the latest.
    """
    if wait is None:
        shown = await _shown(services, client, export_id, response)
    else:
        shown = await _awaited(services, client, export_id, response, wait, seen)
    if matches(seen, response.headers["ETag"]):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=dict(response.headers))
    return shown


@router.post(
    "/{export_id}/cancel",
    responses=problems(*ON_CALL, Code.NOT_CANCELABLE) | CANCELING,
)
async def cancel_export(
    client: ExportsWriter, export_id: ExportIdPath, services: ServicesOf, response: Response
) -> ExportOut:
    """Stop an export; asked again, the answer is the same.

    A job at Asana cannot be stopped: once started, the export is `canceling` (202) until the job has ended,
    and its file is dropped.
    """
    async with services.sessions.begin() as session:
        await visible_export(session, client, export_id)
        canceled = await cancel(session, export_id, actor=client.actor, request_id=request_id())
        if canceled.status is Status.CANCELING:
            response.status_code = status.HTTP_202_ACCEPTED
    return await _shown(services, client, export_id, response)


@router.post(
    "/{export_id}/retry",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*ON_SUBMIT_CODES, Code.NOT_RETRYABLE),
)
async def retry_export(
    client: ExportsWriter,
    export_id: ExportIdPath,
    services: ServicesOf,
    response: Response,
    key: IdempotencyKey,
) -> ExportOut:
    """Ask again for what an ended export was asked for, as a new export with `retry_of`.

    The ended one never changes again. Priority and labels are taken over; deadlines are not.
    """
    async with services.reads() as session:
        ended = await visible_export(session, client, export_id)
    if ended.status not in FINAL:
        raise ProblemError(Code.NOT_RETRYABLE, f"The export is still {ended.status}.")
    wanted = Submission(
        request=stored_request(ended.kind, ended.workspace, ended.request),
        priority=ended.priority,
        labels=ended.labels,
        retry_of=ended.id,
        request_id=request_id(),
    )
    route = f"exports/{export_id}/retry"
    return await _accept(services, client, wanted, route, key, {}, response)


@router.get("/{export_id}/events", responses=problems(*ON_CALL))
async def get_export_events(client: ExportsReader, export_id: ExportIdPath, services: ServicesOf) -> Timeline:
    """What happened to an export, in order."""
    async with services.reads() as session:
        return Timeline.of(await timeline(session, client, export_id))


async def _submit(
    services: Services, client: Client, body: ExportCreate, key: str | None, response: Response
) -> ExportOut:
    wanted = body.submission(body, request_id())
    given = body.model_dump(mode="json", by_alias=True)
    return await _accept(services, client, wanted, f"exports/{body.kind}", key, given, response)


async def _accept(
    services: Services,
    client: Client,
    wanted: Submission,
    route: str,
    key: str | None,
    given: Json,
    response: Response,
) -> ExportOut:
    async with services.sessions.begin() as session:

        async def make() -> ExportId:
            return (await accept(session, client, wanted, services.rules)).id

        export = await made_once(session, response, client, route, key, given, make)
    response.headers["Location"] = f"/v1/exports/{export}"
    # Read afterwards, for until then the lane is locked.
    shown = await _shown(services, client, export, response)
    await tell_quotas(services, client, shown.workspace, shown.kind)
    return shown


async def tell_quotas(services: Services, client: Client, workspace: str, kind: Kind) -> None:
    """Let the answer speak of what is left of the quotas that an export counted against."""
    async with services.reads() as session:
        quotas = await quotas_for(session, client, workspace, kind)
    tell(Allowance(quota.name, quota.limit, quota.left) for quota in quotas)


async def _awaited(
    services: Services, client: Client, export_id: ExportId, response: Response, wait: int, seen: str | None
) -> ExportOut:
    """The export at its end, or at its first change from what was seen, or when the time is over."""
    clock = services.clock
    until = clock.monotonic() + wait
    response.headers["Preference-Applied"] = f"wait={wait}"
    async with services.reads() as session:
        export = await visible_export(session, client, export_id)
    # Subscribed before the state is read: what changes in between wakes us.
    with services.changes.subscribe(export.run, export.lane if seen else None) as changed:
        while True:
            changed.clear()
            view, estimate = await services.looks.at(export_id, partial(_view, services, client, export_id))
            left = until - clock.monotonic()
            news = view.export.status in FINAL or (seen and not matches(seen, etag_of(view)))
            if news or left <= 0 or services.changes.closed:
                return _described(response, view, estimate)
            await woken_within(clock, changed, left)


async def _shown(services: Services, client: Client, export: ExportId, response: Response) -> ExportOut:
    return _described(response, *await _view(services, client, export))


async def _view(services: Services, client: Client, export: ExportId) -> tuple[ExportView, Estimate | None]:
    async with services.reads() as session:
        view = await export_view(session, client, export)
        return view, await estimate_of(session, view)


def _described(response: Response, view: ExportView, estimate: Estimate | None) -> ExportOut:
    response.headers["ETag"] = etag_of(view)
    response.headers["Cache-Control"] = "private, no-cache"
    if (seconds := retry_after(view, estimate)) is not None:
        response.headers["Retry-After"] = str(seconds)
    return ExportOut.of(view, estimate)
