"""Deliveries as the owners of endpoints see them, and what they may have sent again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.events.log import Cause, Event, EventType, audit, new_event, record_all
from app.events.outgoing import say_again, wake
from app.events.public import PUBLIC
from app.ids import EndpointId, EventId
from app.problems import Code, ProblemError
from app.webhooks.endpoints import forget_failures, visible_endpoint
from app.webhooks.models import DeliveryState, WebhookDelivery, WebhookEndpoint

MOST_REPLAYED = 10_000
# An event's id begins with the time of a process, not of PostgreSQL.
CLOCKS_DIFFER_BY = timedelta(hours=1)


@dataclass(frozen=True)
class DeliveryView:
    """A delivery, with what kind of event it tells of."""

    delivery: WebhookDelivery
    type: str


@dataclass(frozen=True)
class Replayed:
    """How many deliveries were begun anew; from when on there are more, if there are."""

    deliveries: int
    more_since: datetime | None = None


async def deliveries_of(
    session: AsyncSession,
    client: Client,
    endpoint_id: EndpointId,
    *,
    state: DeliveryState | None,
    before: EventId | None,
    most: int,
) -> Sequence[DeliveryView]:
    """Of the newest events first, from the one after `before`. Raises `ProblemError` `not-found`."""
    await visible_endpoint(session, client, endpoint_id)
    statement = (
        select(WebhookDelivery, Event.type)
        .join(Event, Event.id == WebhookDelivery.event)
        .where(WebhookDelivery.endpoint == endpoint_id)
        .order_by(WebhookDelivery.event.desc())
        .limit(most)
    )
    if state:
        statement = statement.where(WebhookDelivery.state == state)
    if before:
        statement = statement.where(WebhookDelivery.event < before)
    return [DeliveryView(delivery, kind) for delivery, kind in await session.execute(statement)]


async def replay_one(
    session: AsyncSession, client: Client, endpoint_id: EndpointId, event: EventId, cause: Cause
) -> Replayed:
    """Send an event again; one that is on its way stays so. Raises `ProblemError`."""
    endpoint = await _enabled(session, client, endpoint_id)
    delivery = await session.get(WebhookDelivery, (endpoint.id, event), with_for_update=True)
    if delivery is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no delivery {event} to {endpoint_id}.")
    if delivery.state is DeliveryState.PENDING:
        return Replayed(0)
    delivery.state, delivery.finished_at = DeliveryState.PENDING, None
    delivery.due_at, delivery.tries = func.now(), 0
    delivery.failing_since = delivery.failed_at = None
    forget_failures(endpoint)
    await session.flush()
    await wake(session, endpoint.id)
    await audit(session, EventType.WEBHOOK_REPLAYED, cause, data=endpoint.facts | {"delivery": event})
    return Replayed(1)


async def replay_since(
    session: AsyncSession, client: Client, endpoint_id: EndpointId, since: datetime, cause: Cause
) -> Replayed:
    """Send what has happened since then, and is wanted now: what was sent before, and what was missed.

    The oldest first, so many at a time. Raises `ProblemError`.
    """
    endpoint = await _enabled(session, client, endpoint_id)
    happened = (
        await session.execute(
            select(Event.id, Event.created_at)
            .where(
                Event.id >= _first_id_at(since),
                Event.created_at >= since,
                Event.type.in_(endpoint.types or sorted(PUBLIC)),
            )
            .order_by(Event.created_at, Event.id)
            .limit(MOST_REPLAYED)
            .with_for_update(read=True, key_share=True)
        )
    ).all()
    deliveries = await say_again(session, [event for event, _ in happened], endpoint.id)
    replayed = {"since": since.isoformat(), "deliveries": deliveries}
    await audit(session, EventType.WEBHOOK_REPLAYED, cause, data=endpoint.facts | replayed)
    more_since = happened[-1].created_at if len(happened) == MOST_REPLAYED else None
    return Replayed(deliveries, more_since)


async def send_test(
    session: AsyncSession, client: Client, endpoint_id: EndpointId, cause: Cause
) -> DeliveryView:
    """Send an event of its own, `webhook.test`, to this endpoint alone. Raises `ProblemError`."""
    endpoint = await _enabled(session, client, endpoint_id)
    event = new_event(
        EventType.WEBHOOK_TEST,
        actor=cause.actor,
        request_id=cause.request_id,
        data=endpoint.facts,
    )
    await record_all(session, [event])
    forget_failures(endpoint)
    delivery = WebhookDelivery(endpoint=endpoint.id, event=event["id"])
    session.add(delivery)
    await session.flush()
    await session.refresh(delivery)
    await wake(session, endpoint.id)
    return DeliveryView(delivery, EventType.WEBHOOK_TEST)


async def _enabled(session: AsyncSession, client: Client, endpoint_id: EndpointId) -> WebhookEndpoint:
    endpoint = await visible_endpoint(session, client, endpoint_id, lock=True)
    if endpoint.disabled_at is not None:
        detail = f"The endpoint is disabled, because: {endpoint.disabled_because}."
        raise ProblemError(Code.ENDPOINT_DISABLED, detail)
    return endpoint


def _first_id_at(moment: datetime) -> EventId:
    """What no event made since then has an id below (RFC 9562, section 5.7), as far as clocks may differ."""
    since = moment.timestamp() - CLOCKS_DIFFER_BY.total_seconds()
    milliseconds = max(0, int(since * 1000))
    return EventId(f"evt_{milliseconds:012x}")
