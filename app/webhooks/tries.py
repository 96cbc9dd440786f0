"""What a worker does to a delivery: it takes one that is due, and tells what came of the try.

A receiver that is down must cost little, however much waits for it. Once three deliveries to it have failed
with none accepted in between, those alone go on being tried, each after its own pauses; what has not been
tried yet waits for one to be accepted. Three and not one, so that a receiver which chokes on a single event
is sent the others. And as those pauses grow to a day, one of the others is let through every few minutes, to
probe the receiver.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from sqlalchemy import Interval, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.base import NO_KEY_UPDATE, Json
from app.events.body import EventBody
from app.events.log import Event, EventType, record
from app.events.outgoing import wake
from app.ids import EndpointId, EventId
from app.metrics import WEBHOOK_DELIVERY, once_committed
from app.webhooks.endpoints import disable
from app.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app.webhooks.sending import Attempt

# Seconds between a try and the next; the first comes at once, and with the last the delivery is given up.
PAUSES: tuple[float, ...] = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
JITTER = 0.1
MOST_TRIES = len(PAUSES) + 1
MOST_ATTEMPTS_KEPT = 20
PROBE_AFTER = timedelta(minutes=5)

# While it is tried it is not due: should the worker die, it is again after so many seconds.
CLAIM = text("""
    WITH next AS (
        SELECT due.endpoint, due.event
        FROM webhook_endpoints AS receiver
        JOIN clients ON clients.id = receiver.client
        JOIN webhook_deliveries AS due ON due.endpoint = receiver.id
        WHERE receiver.id = :endpoint AND receiver.disabled_at IS NULL AND clients.revoked_at IS NULL
          AND coalesce(receiver.not_before <= now(), true)
          AND due.state = 'pending' AND due.due_at <= now()
          AND due.tries >= (SELECT (failing >= 3)::int FROM webhook_endpoints WHERE id = :endpoint)
        ORDER BY due.tries DESC, due.event
        LIMIT 1
        FOR UPDATE OF due SKIP LOCKED)
    UPDATE webhook_deliveries AS held
    SET ticket = ticket + 1, due_at = now() + make_interval(secs => :seconds)
    FROM next WHERE (held.endpoint, held.event) = (next.endpoint, next.event)
    RETURNING held.event, held.ticket, held.tries, clock_timestamp() AS at, NULL AS next_probe_at
""")
# Each time another one: a probe that failed is due later than those that were not sent yet.
PROBE = text("""
    WITH probed AS (
        UPDATE webhook_endpoints AS receiver SET probe_at = now() + :pause
        FROM clients
        WHERE receiver.id = :endpoint AND receiver.disabled_at IS NULL
          AND clients.id = receiver.client AND clients.revoked_at IS NULL
          AND coalesce(receiver.not_before <= now(), true)
          AND receiver.failing >= 3 AND receiver.probe_at <= now()
          AND EXISTS (
            SELECT FROM webhook_deliveries
            WHERE endpoint = receiver.id AND state = 'pending' AND tries = 0 AND due_at <= now())
        RETURNING receiver.id, receiver.probe_at
    ), next AS (
        SELECT due.endpoint, due.event, probed.probe_at
        FROM probed JOIN webhook_deliveries AS due ON due.endpoint = probed.id
        WHERE due.state = 'pending' AND due.tries = 0 AND due.due_at <= now()
        ORDER BY due.due_at, due.event
        LIMIT 1
        FOR UPDATE OF due SKIP LOCKED)
    UPDATE webhook_deliveries AS held
    SET ticket = ticket + 1, due_at = now() + make_interval(secs => :seconds)
    FROM next WHERE (held.endpoint, held.event) = (next.endpoint, next.event)
    RETURNING held.event, held.ticket, held.tries, clock_timestamp() AS at, next.probe_at AS next_probe_at
""").bindparams(bindparam("pause", PROBE_AFTER, Interval))
RECEIVER = text("""
    SELECT url, secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous
    FROM webhook_endpoints WHERE id = :endpoint
""")
# The net under lost wake-ups and workers that died in the middle: what should have been tried by now.
OVERDUE = text("""
    SELECT receiver.id FROM webhook_endpoints AS receiver JOIN clients ON clients.id = receiver.client
    WHERE receiver.disabled_at IS NULL AND clients.revoked_at IS NULL
      AND coalesce(receiver.not_before <= now(), true)
      AND EXISTS (
        SELECT FROM webhook_deliveries
        WHERE endpoint = receiver.id AND state = 'pending'
          AND due_at < now() - make_interval(secs => :seconds)
          AND tries >= (receiver.failing >= 3 AND coalesce(
            receiver.probe_at >= now() - make_interval(secs => :seconds), true))::int)
""")


@dataclass(frozen=True)
class HeldDelivery:
    """A delivery as held for one try, by PostgreSQL's clock: where it goes, signed by which secrets
    (encrypted), and what it says. One that probes a failing receiver has lost none of its tries if it fails.
    """

    endpoint: EndpointId
    event: EventId
    ticket: int
    tries: int
    probes: bool
    at: datetime
    url: str
    secrets: Sequence[bytes]
    happened_at: datetime
    body: str


def pause_after(tries: int, random: Random) -> float:
    """Seconds until the next try after so many before this one, a little more or less."""
    return PAUSES[min(tries, len(PAUSES) - 1)] * random.uniform(1 - JITTER, 1 + JITTER)


async def claim_delivery(session: AsyncSession, endpoint: EndpointId, seconds: float) -> HeldDelivery | None:
    """Take one that is due for so many seconds; None when there is none to be tried now."""
    wanted = {"endpoint": endpoint, "seconds": seconds}
    held = (await session.execute(CLAIM, wanted)).one_or_none()
    held = held or (await session.execute(PROBE, wanted)).one_or_none()
    if held is None:
        return None
    if held.next_probe_at:
        await wake(session, endpoint, at=held.next_probe_at)
    receiver = (await session.execute(RECEIVER, {"endpoint": endpoint})).one()
    event = (await session.scalars(select(Event).where(Event.id == held.event))).one()
    return HeldDelivery(
        endpoint=endpoint,
        event=held.event,
        ticket=held.ticket,
        tries=held.tries,
        probes=held.next_probe_at is not None,
        at=held.at,
        url=receiver.url,
        secrets=[secret for secret in (receiver.secret, receiver.previous) if secret],
        happened_at=event.created_at,
        body=EventBody.of(event).model_dump_json(),
    )


async def accepted(session: AsyncSession, held: HeldDelivery, attempt: Attempt) -> None:
    """The receiver has it. One that was failing is well again, and what waited for that is sent."""
    recovered = await session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == held.endpoint, WebhookEndpoint.failing_since.is_not(None))
        .values(failing=0, failing_since=None, not_before=None)
    )
    if recovered.rowcount:  # type: ignore[attr-defined]
        await wake(session, held.endpoint)
    delivery = await _still_held(session, held)
    if delivery:
        now = await _now(session)
        delivery.state, delivery.finished_at = DeliveryState.DELIVERED, now
        _note(delivery, attempt, now)
        seconds = (now - held.happened_at).total_seconds()
        once_committed(session, lambda: WEBHOOK_DELIVERY.observe(seconds))


async def refused(
    session: AsyncSession, held: HeldDelivery, attempt: Attempt, pause: float, actor: str
) -> None:
    """The receiver has not taken it: it is tried again after the pause, or after the longer one that the
    receiver asks for; or it is given up, and with it a receiver that takes nothing.
    """
    endpoint = await session.get(
        WebhookEndpoint, held.endpoint, with_for_update=NO_KEY_UPDATE, populate_existing=True
    )
    delivery = await _still_held(session, held)
    if endpoint is None or delivery is None:
        return
    now = await _now(session)
    _note(delivery, attempt, now)
    if attempt.gone:
        await _give_up(session, endpoint, DisabledBecause.GONE, actor)
        return
    if held.probes:
        # That was none of its own tries: it goes on waiting with the others.
        delivery.tries = held.tries
        await _try_again(session, endpoint, delivery, now, pause, attempt.retry_after or 0.0)
        return
    taken_nothing_since = await _count_failure(session, endpoint, delivery, now)
    if delivery.tries < MOST_TRIES:
        await _try_again(session, endpoint, delivery, now, pause, attempt.retry_after or 0.0)
    elif taken_nothing_since:
        await _give_up(session, endpoint, DisabledBecause.FAILING, actor)
    else:
        delivery.state, delivery.finished_at = DeliveryState.FAILED, now
        # It is no longer among those whose tries tell when the receiver is well again.
        endpoint.failing -= 1


async def wake_overdue(session: AsyncSession, seconds: float) -> Sequence[EndpointId]:
    """Wake what should have been sent so many seconds ago; in health there is none. Returns whose it is."""
    found = (await session.scalars(OVERDUE, {"seconds": seconds})).all()
    for endpoint in found:
        await wake(session, endpoint)
    return found


async def _count_failure(
    session: AsyncSession, endpoint: WebhookEndpoint, delivery: WebhookDelivery, now: datetime
) -> bool:
    """Count the delivery among those that fail, once; tells whether the receiver has taken nothing since its
    first failure.
    """
    if endpoint.failing_since is None:
        endpoint.failing, endpoint.failing_since = 0, now
        endpoint.probe_at = now + PROBE_AFTER
        await wake(session, endpoint.id, at=endpoint.probe_at)
    if delivery.failed_at is None or delivery.failed_at < endpoint.failing_since:
        endpoint.failing += 1
    delivery.failing_since, delivery.failed_at = delivery.failing_since or now, now
    return endpoint.failing_since <= delivery.failing_since


async def _try_again(
    session: AsyncSession,
    endpoint: WebhookEndpoint,
    delivery: WebhookDelivery,
    now: datetime,
    pause: float,
    asked_for: float,
) -> None:
    delivery.due_at = now + timedelta(seconds=max(pause, asked_for))
    await wake(session, endpoint.id, at=delivery.due_at)
    if asked_for:
        endpoint.not_before = now + timedelta(seconds=asked_for)
        await wake(session, endpoint.id, at=endpoint.not_before)


async def _give_up(
    session: AsyncSession, endpoint: WebhookEndpoint, because: DisabledBecause, actor: str
) -> None:
    await disable(session, endpoint, because)
    facts = endpoint.facts | {"because": because}
    await record(session, EventType.WEBHOOK_DISABLED, actor=actor, data=facts)


async def _still_held(session: AsyncSession, held: HeldDelivery) -> WebhookDelivery | None:
    """The delivery, locked, unless another try has begun since, or it has come to an end."""
    delivery = await session.get(
        WebhookDelivery, (held.endpoint, held.event), with_for_update=True, populate_existing=True
    )
    is_held = delivery and (delivery.ticket, delivery.state) == (held.ticket, DeliveryState.PENDING)
    return delivery if is_held else None


def _note(delivery: WebhookDelivery, attempt: Attempt, now: datetime) -> None:
    said: Json = {
        "at": now.isoformat(),
        "status": attempt.status,
        "error": attempt.error,
        "duration_ms": attempt.duration_ms,
    }
    delivery.attempts = [*delivery.attempts, said][-MOST_ATTEMPTS_KEPT:]
    delivery.tries += 1


async def _now(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(select(func.clock_timestamp()))).scalar_one()
    return now
