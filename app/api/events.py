"""Following what happens: in pages, or as a stream."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel, ConfigDict, Field

from app.api.auth import ExportsReader
from app.api.conditions import prefers
from app.api.examples import STREAM
from app.api.follower import FeedEventOut, Follower
from app.api.head import IS_HEAD
from app.api.problems import ON_CALL, problems
from app.api.services import ServicesOf
from app.events.log import EventType
from app.exports.feed import Cursor, Edge, EventFilter, FeedPage
from app.exports.requests import Gid
from app.ids import ExportId
from app.problems import Code

router = APIRouter(prefix="/v1/events", tags=["events"])

JSON, STREAMED = "application/json", "text/event-stream"
LATEST = "latest"
PLACE = r"[0-9]{1,18}"
HEADERS = {"Cache-Control": "no-store", "Vary": "Accept"}

NEGOTIATED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events in order, as a page or, where `Accept` wants it, as a stream without end.",
        "content": {STREAMED: {"schema": {"type": "string"}, "example": STREAM}},
    }
}


class EventQuery(BaseModel):
    """Which events, from where on. A parameter that it does not know is refused."""

    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(
        None,
        pattern=f"^({PLACE}|{LATEST})$",
        description="The `cursor` of a page or an event, or the `id` of a streamed one: what follows it is "
        f"told. `{LATEST}` begins with what happens from now on; without it, the oldest event comes first.",
        examples=["4711"],
    )
    export: str | None = Field(None, pattern=r"^exp_[0-9a-f]{32}$", description="Of this export alone.")
    workspace: Gid | None = None
    type: list[EventType] = Field(default_factory=list, description="Repeated, for several types.")
    page_size: int = Field(100, ge=1, le=1000, description="Most events on a page.")

    @property
    def wanted(self) -> EventFilter:
        export = ExportId(self.export) if self.export else None
        return EventFilter(export, self.workspace, frozenset(self.type))


class EventPage(BaseModel):
    """Some of the feed, in order."""

    items: list[FeedEventOut]
    cursor: str = Field(description="`after` for the next page, also when this one is empty. Opaque.")
    has_more: bool = Field(
        description="Whether to go on at once. A page may be empty though more follows, if little is wanted."
    )

    @classmethod
    def of(cls, page: FeedPage) -> "EventPage":
        items = [FeedEventOut.placed(told) for told in page.items]
        return cls(items=items, cursor=str(page.cursor), has_more=page.has_more)


@router.get("", response_model=EventPage, responses=NEGOTIATED | problems(*ON_CALL, Code.CURSOR_EXPIRED))
async def list_events(
    client: ExportsReader,
    services: ServicesOf,
    query: Annotated[EventQuery, Query()],
    request: Request,
    response: Response,
    accept: Annotated[str, Header(description=f"`{STREAMED}` to be sent events as they come.")] = JSON,
    last_event_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            pattern=f"^{PLACE}$",
            description="For a stream that goes on: the last `id` that was seen. It goes before `after`.",
        ),
    ] = None,
) -> EventPage | Response:
    """What happened to your exports, and to the workspaces you have a grant for; an administrator sees all.

    All readers get the events in one order, and none is left out. As a stream
    (`Accept: text/event-stream`) they come when they happen; one that broke off goes on after the last `id`.
    """
    streamed = prefers(accept, STREAMED, to=JSON)
    after = _cursor(last_event_id if streamed and last_event_id else query.after)
    page = await services.feed.page(client, query.wanted, after, query.page_size)
    response.headers.update(HEADERS)
    if not streamed:
        return EventPage.of(page)
    # Proxies that gather an answer before they pass it on would pass on nothing.
    headers = HEADERS | {"X-Accel-Buffering": "no"}
    if request.scope.get(IS_HEAD):
        return Response(headers=headers, media_type=STREAMED)
    follower = Follower(services.feed, services.clock, client, query.wanted)
    return EventSourceResponse(follower.stream(page), headers=headers)


def _cursor(given: str | None) -> Cursor:
    if given is None:
        return Edge.OLDEST
    return Edge.LATEST if given == LATEST else int(given)
