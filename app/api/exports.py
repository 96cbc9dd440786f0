"""Asking for exports and following them."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import AwareDatetime, Field

from app.access.models import Client, Kind
from app.api.auth import ExportsReader, ExportsWriter
from app.api.idempotency import IdempotencyKey
from app.api.ids import ExportIdPath
from app.api.paging import PageQuery, last_seen, page_token
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.request_id import request_id
from app.api.schemas import ExportOut, ExportPage, GraphExportCreate, ResourceExportCreate, Timeline
from app.api.services import Services, ServicesOf
from app.api.waiting import NOT_MODIFIED, IfNoneMatch, etag_of, is_current, retry_after
from app.exports.accept import Submission, accept
from app.exports.cancel import cancel
from app.exports.idempotency import once
from app.exports.models import Status
from app.exports.reading import ExportFilter, ExportView, export_view, export_views, timeline
from app.exports.requests import Gid
from app.problems import Code

router = APIRouter(prefix="/v1/exports", tags=["exports"])


class ExportListQuery(PageQuery):
    """Which exports to list."""

    workspace: Gid | None = None
    status: Status | None = None
    kind: Kind | None = None
    label: str | None = Field(
        None, pattern=r"^[^:\x00]+:[^\x00]*$", description="`name:value`", examples=["team:bi"]
    )
    created_after: AwareDatetime | None = None

    def wanted(self) -> ExportFilter:
        name, colon, value = (self.label or "").partition(":")
        return ExportFilter(
            self.workspace, self.status, self.kind, (name, value) if colon else None, self.created_after
        )


ON_SUBMIT = problems(
    *ON_BODY, Code.IDEMPOTENCY_KEY_INVALID, Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_IN_PROGRESS
)
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
    async with services.sessions() as session:
        views = await export_views(session, client, query.wanted(), before=before, most=query.page_size + 1)
    shown = views[: query.page_size]
    following = page_token(shown[-1].export.id) if len(views) > query.page_size else None
    if following:
        address = request.url.include_query_params(page_token=following)
        response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'
    return ExportPage(items=[ExportOut.of(view) for view in shown], next_page_token=following)


@router.get("/{export_id}", response_model=ExportOut, responses=problems(*ON_CALL) | NOT_MODIFIED)
async def get_export(
    client: ExportsReader,
    export_id: ExportIdPath,
    services: ServicesOf,
    response: Response,
    seen: IfNoneMatch = None,
) -> ExportOut | Response:
    """An export as it is now; 200 also for a failed one, whose `error` tells why."""
    async with services.sessions() as session:
        view = await export_view(session, client, export_id)
    _describe(response, services, view)
    if is_current(seen, view):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=dict(response.headers))
    return ExportOut.of(view)


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
        view = await export_view(session, client, export_id)
        await cancel(session, view.export.id, actor=client.actor, request_id=request_id())
        view = await export_view(session, client, view.export.id)
    _describe(response, services, view)
    if view.export.status is Status.CANCELING:
        response.status_code = status.HTTP_202_ACCEPTED
    return ExportOut.of(view)


@router.get("/{export_id}/events", responses=problems(*ON_CALL))
async def get_export_events(client: ExportsReader, export_id: ExportIdPath, services: ServicesOf) -> Timeline:
    """What happened to an export, in order."""
    async with services.sessions() as session:
        return Timeline.of(await timeline(session, client, export_id))


async def _submit(
    services: Services,
    client: Client,
    body: ResourceExportCreate | GraphExportCreate,
    key: str | None,
    response: Response,
) -> ExportOut:
    wanted = Submission(body, body.priority, body.labels, request_id())
    async with services.sessions.begin() as session:
        make = partial(accept, session, client, wanted, services.settings.lane_scope)
        if key is None:
            export, replayed = (await make()).id, False
        else:
            given = body.model_dump(mode="json", by_alias=True)
            export, replayed = await once(session, client.id, f"exports/{body.kind}", key, given, make)
    # Afterwards, for until then the lane is locked.
    async with services.sessions() as session:
        view = await export_view(session, client, export)
    _describe(response, services, view)
    response.headers["Location"] = f"/v1/exports/{export}"
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return ExportOut.of(view)


def _describe(response: Response, services: Services, view: ExportView) -> None:
    response.headers["ETag"] = etag_of(view)
    response.headers["Cache-Control"] = "private, no-cache"
    if (seconds := retry_after(view, services.clock.now())) is not None:
        response.headers["Retry-After"] = str(seconds)
