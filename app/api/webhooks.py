"""Webhook endpoints: where a client is told of events, what was sent there, and what is sent again."""

from datetime import datetime
from typing import Annotated, Any, Self

from fastapi import APIRouter, Body, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from app.access.vault import Vault
from app.api.auth import ExportsReader, Note, NoteQuery, Reason, ReasonBody, cause_of
from app.api.idempotency import IdempotencyKey, made_once
from app.api.ids import EndpointIdPath
from app.api.paging import PageQuery, last_event_seen, name_next_page, page_token
from app.api.problems import ON_BODY, ON_CALL, ON_KEY, problems
from app.api.services import ServicesOf
from app.events.public import PublicType
from app.exports.requests import Moment
from app.ids import EndpointId, EventId
from app.problems import Code
from app.webhooks.deliveries import DeliveryView, Replayed, deliveries_of, replay_one, replay_since, send_test
from app.webhooks.endpoints import (
    EndpointChanges,
    EndpointSpec,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    endpoints_of,
    rotate_secret,
    visible_endpoint,
)
from app.webhooks.models import DeliveryState, DisabledBecause, WebhookEndpoint
from app.webhooks.targets import target_policy

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"])

EXAMPLE: dict[str, Any] = {
    "url": "https://hooks.example.com/asana-exports",
    "description": "loads what has succeeded",
    "types": ["export.succeeded", "export.failed"],
    "workspaces": ["12345"],
}


class WebhookEndpointCreate(EndpointSpec):
    """Where to be told of events, and of which."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    note: Note = None


class WebhookEndpointPatch(EndpointChanges):
    """What is to be changed; what is left out stays. `{"disabled": false}` enables it again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"types": [], "note": "all of them"}]})

    note: Note = None


class WebhookEndpointOut(BaseModel):
    """Where a client is told of events."""

    id: str
    url: str
    description: str
    types: list[PublicType] = Field(description="Empty for everything.")
    workspaces: list[str] = Field(description="Empty for all that the client may see.")
    disabled: bool
    disabled_at: datetime | None
    disabled_because: DisabledBecause | None
    failing_since: datetime | None = Field(description="Since when its receiver has accepted nothing.")
    previous_secret_until: datetime | None = Field(
        description="Until when the secret before the present one signs too."
    )
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "WebhookEndpointOut":
        return cls(
            id=endpoint.id,
            url=endpoint.url,
            description=endpoint.description,
            types=[PublicType(kind) for kind in endpoint.types],
            workspaces=endpoint.workspaces,
            disabled=endpoint.disabled_at is not None,
            disabled_at=endpoint.disabled_at,
            disabled_because=endpoint.disabled_because,
            failing_since=endpoint.failing_since,
            previous_secret_until=endpoint.previous_until,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
        )


class WebhookEndpointWithSecret(WebhookEndpointOut):
    """An endpoint with its new secret."""

    secret: str = Field(
        description="What signs. Shown here alone, and once more when the request is repeated with its "
        "`Idempotency-Key`."
    )

    @classmethod
    def opened(cls, endpoint: WebhookEndpoint, vault: Vault) -> "WebhookEndpointWithSecret":
        secret = vault.decrypt(endpoint.secret).get_secret_value()
        return cls(**dict(WebhookEndpointOut.of(endpoint)), secret=secret)


class WebhookEndpointList(BaseModel):
    items: list[WebhookEndpointOut]


class Rotation(Reason):
    """Another secret, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"note": "it was in a log", "force": True}]}
    )

    force: bool = Field(
        False,
        strict=True,
        description="Also when the secret before the present one still signs, which then ends at once.",
    )


class AttemptOut(BaseModel):
    """One try, and what came of it."""

    at: datetime
    status: int | None = Field(description="Of the answer; null where there was none.")
    error: str | None = Field(description="Why there was no answer, or no whole one.")
    duration_ms: int


class DeliveryOut(BaseModel):
    """An event on its way to an endpoint."""

    id: str = Field(description="The event's, which receivers see as `webhook-id`.")
    type: str
    state: DeliveryState
    next_try_at: datetime | None = Field(description="Null unless it is pending.")
    attempts: list[AttemptOut] = Field(description="The last ones, in order.")
    created_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, view: DeliveryView) -> "DeliveryOut":
        delivery = view.delivery
        return cls(
            id=delivery.event,
            type=view.type,
            state=delivery.state,
            next_try_at=delivery.due_at if delivery.state is DeliveryState.PENDING else None,
            attempts=[AttemptOut.model_validate(attempt) for attempt in delivery.attempts],
            created_at=delivery.created_at,
            finished_at=delivery.finished_at,
        )


class DeliveryPage(BaseModel):
    """Deliveries, those of the newest events first."""

    items: list[DeliveryOut]
    next_page_token: str | None = Field(description="For the next page; null on the last.")


class DeliveryListQuery(PageQuery):
    """The parameters of a list of deliveries."""

    state: DeliveryState | None = None


class Replay(BaseModel):
    """What is to be sent again: one delivery, or everything that has happened since a time."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"since": "2026-01-02T03:00:00Z", "note": "the receiver was restored from a backup"}]
        },
    )

    delivery: str | None = Field(None, pattern=r"^evt_[0-9a-f]{32}$", description="The id of a delivery.")
    since: Moment | None = Field(None, description="Also what was not sent, for the endpoint was disabled.")
    note: Note = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.delivery is None) == (self.since is None):
            raise PydanticCustomError("replay", "must have either `delivery` or `since`")
        return self


class ReplayOut(BaseModel):
    """What is being sent again."""

    deliveries: int = Field(description="How many; one that is on its way already does not count.")
    more_since: datetime | None = Field(
        description="Null unless there is more: then replay from this time on, once these are sent."
    )

    @classmethod
    def of(cls, replayed: Replayed) -> "ReplayOut":
        return cls(deliveries=replayed.deliveries, more_since=replayed.more_since)


@router.post(
    "", status_code=status.HTTP_201_CREATED, responses=problems(*ON_BODY, *ON_KEY, Code.QUOTA_EXCEEDED)
)
async def create_webhook_endpoint(
    body: WebhookEndpointCreate,
    client: ExportsReader,
    services: ServicesOf,
    response: Response,
    key: IdempotencyKey,
) -> WebhookEndpointWithSecret:
    """Be told of events by posts to an address of yours, from now on.

    You are told of what you may see at the time of the event: your own exports and their files, and the
    queues of the workspaces you have a grant for.
    """
    policy, cause = target_policy(services.settings), cause_of(client, body.note)
    given = body.model_dump(mode="json")
    async with services.sessions.begin() as session:

        async def make() -> EndpointId:
            return (await create_endpoint(session, client, services.vault, policy, body, cause)).id

        made = await made_once(session, response, client, "webhook-endpoints", key, given, make)
        endpoint = await visible_endpoint(session, client, made)
    response.headers["Location"] = f"/v1/webhook-endpoints/{made}"
    return WebhookEndpointWithSecret.opened(endpoint, services.vault)


@router.get("", responses=problems(*ON_CALL))
async def list_webhook_endpoints(client: ExportsReader, services: ServicesOf) -> WebhookEndpointList:
    """Your endpoints, in order of making; an administrator sees everybody's."""
    async with services.sessions() as session:
        found = await endpoints_of(session, client)
    return WebhookEndpointList(items=[WebhookEndpointOut.of(each) for each in found])


@router.get("/{endpoint_id}", responses=problems(*ON_CALL))
async def get_webhook_endpoint(
    client: ExportsReader, endpoint_id: EndpointIdPath, services: ServicesOf
) -> WebhookEndpointOut:
    """One endpoint."""
    async with services.sessions() as session:
        return WebhookEndpointOut.of(await visible_endpoint(session, client, endpoint_id))


@router.patch("/{endpoint_id}", responses=problems(*ON_BODY))
async def patch_webhook_endpoint(
    client: ExportsReader, endpoint_id: EndpointIdPath, body: WebhookEndpointPatch, services: ServicesOf
) -> WebhookEndpointOut:
    """Change an endpoint, disable it or enable it again.

    Of what happens while it is disabled nothing is sent, and what was on its way is given up; a replay brings
    both.
    """
    policy, cause = target_policy(services.settings), cause_of(client, body.note)
    async with services.sessions.begin() as session:
        changed = await change_endpoint(session, client, endpoint_id, policy, body, cause)
        return WebhookEndpointOut.of(changed)


@router.delete("/{endpoint_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(*ON_CALL))
async def delete_webhook_endpoint(
    client: ExportsReader, endpoint_id: EndpointIdPath, services: ServicesOf, note: NoteQuery = None
) -> None:
    """Send nothing there any more, and forget the list of what was sent."""
    async with services.sessions.begin() as session:
        await delete_endpoint(session, client, endpoint_id, cause_of(client, note))


@router.post(
    "/{endpoint_id}/rotate-secret",
    status_code=status.HTTP_201_CREATED,
    responses=problems(*ON_BODY, *ON_KEY, Code.SECRET_ROTATING),
)
async def rotate_webhook_secret(
    client: ExportsReader,
    endpoint_id: EndpointIdPath,
    services: ServicesOf,
    body: Annotated[Rotation, Body(default_factory=Rotation)],
    response: Response,
    key: IdempotencyKey,
) -> WebhookEndpointWithSecret:
    """Give the endpoint another secret. For 24 hours the one it had signs too, so that none is refused.

    Within these it is not rotated again unless with `force`, for only the last two sign.
    """
    cause, route = cause_of(client, body.note), f"webhook-endpoints/{endpoint_id}/rotate-secret"
    given = body.model_dump(mode="json")
    async with services.sessions.begin() as session:

        async def make() -> EndpointId:
            rotated = await rotate_secret(
                session, client, services.vault, endpoint_id, cause, force=body.force
            )
            return rotated.id

        await made_once(session, response, client, route, key, given, make)
        endpoint = await visible_endpoint(session, client, endpoint_id)
    return WebhookEndpointWithSecret.opened(endpoint, services.vault)


@router.get("/{endpoint_id}/deliveries", responses=problems(*ON_CALL, Code.BAD_PAGE_TOKEN))
async def list_webhook_deliveries(
    client: ExportsReader,
    endpoint_id: EndpointIdPath,
    services: ServicesOf,
    query: Annotated[DeliveryListQuery, Query()],
    request: Request,
    response: Response,
) -> DeliveryPage:
    """What was sent there or is on its way, with each try; of the newest events first."""
    before = last_event_seen(query.page_token)
    async with services.sessions() as session:
        views = await deliveries_of(
            session, client, endpoint_id, state=query.state, before=before, most=query.page_size + 1
        )
    shown = views[: query.page_size]
    following = page_token(shown[-1].delivery.event) if len(views) > query.page_size else None
    name_next_page(request, response, following)
    return DeliveryPage(items=[DeliveryOut.of(view) for view in shown], next_page_token=following)


@router.post(
    "/{endpoint_id}/replay",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*ON_BODY, Code.ENDPOINT_DISABLED),
)
async def replay_webhooks(
    client: ExportsReader, endpoint_id: EndpointIdPath, body: Replay, services: ServicesOf
) -> ReplayOut:
    """Send again: one delivery, or all that has happened since a time and is wanted now.

    With `since` at most 10,000 events are looked at, the oldest first; `more_since` tells where to go on.
    """
    cause = cause_of(client, body.note)
    async with services.sessions.begin() as session:
        if body.since is not None:
            return ReplayOut.of(await replay_since(session, client, endpoint_id, body.since, cause))
        event = EventId(body.delivery or "")
        return ReplayOut.of(await replay_one(session, client, endpoint_id, event, cause))


@router.post(
    "/{endpoint_id}/test",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(*ON_BODY, Code.ENDPOINT_DISABLED),
)
async def test_webhook_endpoint(
    client: ExportsReader, endpoint_id: EndpointIdPath, services: ServicesOf, body: ReasonBody
) -> DeliveryOut:
    """Send an event `webhook.test` to this endpoint alone; the list of deliveries tells what came of it."""
    cause = cause_of(client, body.note)
    async with services.sessions.begin() as session:
        return DeliveryOut.of(await send_test(session, client, endpoint_id, cause))
