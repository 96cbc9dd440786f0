"""Sending webhooks: what is due to a receiver, some at a time."""

from datetime import timedelta

import structlog
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.outgoing import wake
from app.ids import EndpointId
from app.metrics import REPAIRS
from app.webhooks.endpoints import give_up_waiting
from app.webhooks.models import DeliveryState, WebhookDelivery
from app.webhooks.sending import Attempt, send
from app.webhooks.signing import signed_headers
from app.webhooks.tries import (
    HeldDelivery,
    accepted,
    claim_delivery,
    pause_after,
    refused,
    wake_overdue,
)
from app.worker.context import Context

# After so long it is the turn of other receivers, however much there is to be sent to this one.
TURN_SECONDS = 10.0
# Beyond the longest try: then whoever had it in hand is dead.
MARGIN_SECONDS = 10.0
FORGOTTEN_AT_ONCE = 5000

log = structlog.get_logger()


async def deliver_webhooks(ctx: Context, *, endpoint: EndpointId) -> None:
    """Send what is due to an endpoint. A receiver at which enough tries are under way is left to those."""
    places, began = ctx.places, ctx.clock.monotonic()
    if not places.take(endpoint):
        return
    try:
        while True:
            places.look(endpoint)
            longest = ctx.settings.webhook_timeout_seconds + MARGIN_SECONDS
            if held := await ctx.write(claim_delivery, endpoint, longest):
                await _try(ctx, held)
            elif not places.somebody_came(endpoint):
                return
            if ctx.clock.monotonic() - began > TURN_SECONDS:
                await ctx.write(wake, endpoint)
                return
    finally:
        places.leave(endpoint)


async def _try(ctx: Context, held: HeldDelivery) -> None:
    keys = [ctx.vault.decrypt(secret) for secret in held.secrets]
    headers = signed_headers(keys, held.event, held.at, held.body)
    within = ctx.settings.webhook_timeout_seconds
    attempt = await send(ctx.receivers, ctx.clock, held.url, headers, held.body, within=within)
    if attempt.accepted:
        await ctx.write(accepted, held, attempt)
        return
    _log(held, attempt)
    await ctx.write(refused, held, attempt, pause_after(held.tries, ctx.random), ctx.lease.worker)


def _log(held: HeldDelivery, attempt: Attempt) -> None:
    log.warning(
        "webhook.refused",
        endpoint=held.endpoint,
        delivery=held.event,
        tries=held.tries + 1,
        status=attempt.status,
        error=attempt.error,
    )


async def deliver_overdue(ctx: Context) -> None:
    """Wake what a worker that died has left, or a lost job: what should have been sent a while ago. And give
    up what waits for nobody."""
    while await ctx.write(give_up_waiting):
        pass
    if late := await ctx.write(wake_overdue, MARGIN_SECONDS):
        REPAIRS.labels("webhook").inc(len(late))
        log.warning("webhooks.overdue", endpoints=len(late))


async def forget_deliveries(ctx: Context) -> None:
    """Throw away what ended long ago, some at a time."""
    while await ctx.write(_forget, ctx.settings.webhook_days) == FORGOTTEN_AT_ONCE:
        pass


async def _forget(session: AsyncSession, days: int) -> int:
    key = tuple_(WebhookDelivery.endpoint, WebhookDelivery.event)
    over = (
        select(WebhookDelivery.endpoint, WebhookDelivery.event)
        .where(
            WebhookDelivery.state != DeliveryState.PENDING,
            WebhookDelivery.finished_at < func.now() - timedelta(days=days),
        )
        .limit(FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    gone = await session.execute(delete(WebhookDelivery).where(key.in_(over)))
    return gone.rowcount  # type: ignore[attr-defined,no-any-return]
