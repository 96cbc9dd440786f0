"""What receivers of webhooks may do, and what becomes of exports meanwhile: nothing."""

import asyncio
from datetime import datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks import Webhook

from app.access.vault import open_vault
from app.events.log import Cause, Event
from app.events.public import PUBLIC
from app.exports.attention import attention
from app.ids import EndpointId
from app.webhooks.deliveries import replay_one
from app.webhooks.endpoints import EndpointChanges, change_endpoint
from app.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app.webhooks.targets import TargetPolicy
from tests.builders import an_endpoint
from tests.processes import until
from tests.servers import Request, always, answer, serving
from tests.system.conftest import Service
from tests.system.exports import assert_verified, resource

TWO_DAYS = timedelta(days=2)
PAUSES = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]
PAUSE_IS_OVER = (
    text("UPDATE webhook_deliveries SET due_at = now()"),
    text("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE task_name = 'deliver_webhooks'"),
)


async def test_22_a_receiver_answers_500_for_two_days_and_then_410(service: Service) -> None:
    """Each pause is looked up and then over at once; their sum is the time that has gone by."""
    gone_by, well = timedelta(), False

    async def fail(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(204 if well else 500 if gone_by < TWO_DAYS else 410))

    async with serving(fail) as receiver, serving(always(answer(204))) as other:
        client = service.tenants["1001"].client
        async with service.sessions.begin() as session:
            endpoint, secret = await an_endpoint(
                session, open_vault(service.settings), client, receiver.url, types=("export.succeeded",)
            )
            await an_endpoint(session, open_vault(service.settings), client, other.url)
        service.worker(WEBHOOK_ALLOW="127.0.0.0/8", WEBHOOK_ALLOW_HTTP="true")
        (export,) = await service.finished(await service.submit(resource()))
        version = export.version

        for tries in range(1, 20):
            delivery = await tried(service, endpoint.id, tries)
            if delivery.state is not DeliveryState.PENDING:
                break
            pause = delivery.due_at - datetime.fromisoformat(delivery.attempts[-1]["at"])
            assert 0.9 <= pause.total_seconds() / PAUSES[tries - 1] <= 1.1
            gone_by += pause
            async with service.sessions.begin() as session:
                for statement in PAUSE_IS_OVER:
                    await session.execute(statement)
        assert [attempt["status"] for attempt in delivery.attempts] == [500] * 8 + [410]
        assert gone_by > TWO_DAYS
        assert delivery.state is DeliveryState.FAILED

        (export,) = await service.finished(export)
        assert export.version == version
        await assert_verified(service, export)
        async with service.sessions.begin() as session:
            assert await disabled_because(session, endpoint.id) is DisabledBecause.GONE
            (item,) = await attention(session, client, 3600)
            assert item.id == f"webhooks-failed.{endpoint.id}"
            well = True
            enable = EndpointChanges(disabled=False)
            await change_endpoint(session, client, endpoint.id, TargetPolicy(()), enable, Cause("test"))
            await replay_one(session, client, endpoint.id, delivery.event, Cause("test"))
        replayed = await tried(service, endpoint.id, 1)
        assert replayed.state is DeliveryState.DELIVERED
        ids = {request.headers["webhook-id"] for request in receiver.requests}
        assert ids == {delivery.event}
        last = receiver.requests[-1]
        told = Webhook(secret.get_secret_value()).verify(last.body, last.headers)
        assert told["data"]["id"] == export.id
        async with service.sessions() as session:
            assert await attention(session, client, 3600) == []
            happened = set(await session.scalars(select(Event.id).where(Event.type.in_(PUBLIC))))
        assert {request.headers["webhook-id"] for request in other.requests} == happened
        assert len(happened) == 3


async def disabled_because(session: AsyncSession, endpoint: EndpointId) -> DisabledBecause | None:
    return (await session.get_one(WebhookEndpoint, endpoint)).disabled_because


async def tried(service: Service, endpoint: EndpointId, times: int) -> WebhookDelivery:
    """The endpoint's one delivery, once it was tried so often."""
    wanted = WebhookDelivery.endpoint == endpoint, WebhookDelivery.tries == times

    async def look() -> WebhookDelivery | None:
        async with service.sessions() as session:
            return await session.scalar(select(WebhookDelivery).where(*wanted))

    return await until(look, 30, lambda: f"the try {times}")
