"""Webhooks as receivers get them, whatever those answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from standardwebhooks import Webhook, WebhookVerificationError

from app.access.clients import revoke_client
from app.access.vault import Vault
from app.database.session import Database
from app.events.log import Cause, Event, EventType, new_event, record, record_all
from app.exports.attention import attention
from app.ids import EndpointId, EventId
from app.webhooks.deliveries import send_test
from app.webhooks.endpoints import disable, rotate_secret
from app.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app.webhooks.places import Places
from app.webhooks.sending import Attempt
from app.webhooks.tries import accepted, claim_delivery, refused
from app.worker.chores import TASKS, do_chores
from app.worker.context import Context
from app.worker.webhooks import deliver_overdue, deliver_webhooks, forget_deliveries
from tests.builders import Tenant, an_endpoint, an_export
from tests.certificates import a_certificate
from tests.processes import until
from tests.servers import Handler, Request, Server, always, answer, hang_up, serving
from tests.worker.conftest import MovedClock

Sessions = async_sessionmaker[AsyncSession]
DUE = update(WebhookDelivery).values(due_at=func.now())
JOBS = text("""
    SELECT extract(epoch FROM coalesce(scheduled_at, now()) - now())::float
    FROM procrastinate_jobs WHERE task_name = 'deliver_webhooks' AND status = 'todo' ORDER BY id
""")
PAUSE = text("""
    SELECT extract(epoch FROM due_at - now())::float FROM webhook_deliveries
    WHERE endpoint = :endpoint ORDER BY event LIMIT 1
""")
FINE, BROKEN = answer(204), answer(500)


@dataclass
class Receiving:
    """A receiver, the endpoint that names it, and what a worker does for it."""

    ctx: Context
    sessions: Sessions
    server: Server
    endpoint: EndpointId
    secret: SecretStr
    tenant: Tenant

    async def happens(self, times: int = 1) -> list[EventId]:
        """Something of which an administrator is told."""
        events = [new_event(EventType.CREDENTIAL_INVALID, actor="test") for _ in range(times)]
        async with self.sessions.begin() as session:
            await record_all(session, events)
        return [event["id"] for event in events]

    async def deliver(self) -> None:
        await deliver_webhooks(self.ctx, endpoint=self.endpoint)

    async def when_due(self) -> None:
        """As if the pauses were over."""
        async with self.sessions.begin() as session:
            await session.execute(DUE)
            await session.execute(update(WebhookEndpoint).values(not_before=None))
        await self.deliver()

    async def probe_is_due(self, ago: timedelta = timedelta()) -> None:
        """As if minutes had gone by since the last one."""
        async with self.sessions.begin() as session:
            await session.execute(update(WebhookEndpoint).values(probe_at=func.now() - ago))

    async def deliveries(self) -> list[WebhookDelivery]:
        async with self.sessions() as session:
            found = select(WebhookDelivery).where(WebhookDelivery.endpoint == self.endpoint)
            return list(await session.scalars(found.order_by(WebhookDelivery.event)))

    async def states(self) -> list[DeliveryState]:
        return [delivery.state for delivery in await self.deliveries()]

    async def now(self) -> WebhookEndpoint:
        async with self.sessions() as session:
            return await session.get_one(WebhookEndpoint, self.endpoint)

    async def pause(self) -> float:
        """How long until the first delivery is tried again, by its row; a job comes then."""
        async with self.sessions() as session:
            (pause,) = await session.scalars(PAUSE, {"endpoint": self.endpoint})
            assert any(abs(job - pause) < 1 for job in await session.scalars(JOBS))
        return float(pause)


Receive = Callable[[Handler | bytes], Any]


@pytest.fixture
def receive(ctx: Context, sessions: Sessions, vault: Vault, tenant: Tenant) -> Receive:
    @asynccontextmanager
    async def receiving(handler: Handler | bytes) -> AsyncIterator[Receiving]:
        handle = always(handler) if isinstance(handler, bytes) else handler
        async with serving(handle) as server:
            async with sessions.begin() as session:
                endpoint, secret = await an_endpoint(session, vault, tenant.client, f"{server.url}/hook")
            yield Receiving(ctx, sessions, server, endpoint.id, secret, tenant)

    return receiving


def verified(request: Request, *secrets: SecretStr) -> dict[str, Any]:
    """What a receiver takes for true."""
    for secret in secrets:
        told = Webhook(secret.get_secret_value()).verify(request.body, request.headers)
    assert isinstance(told, dict)
    return told


async def test_what_waits_for_a_disabled_endpoint_is_given_up_some_at_a_time(
    receive: Receive, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.webhooks.endpoints.GIVEN_UP_AT_ONCE", 2)
    async with receive(FINE) as receiving:
        await receiving.happens(5)
        async with sessions.begin() as session:
            await disable(
                session, await session.get_one(WebhookEndpoint, receiving.endpoint), DisabledBecause.GONE
            )
        assert sorted(await receiving.states()) == [DeliveryState.FAILED] * 2 + [DeliveryState.PENDING] * 3
        await deliver_overdue(receiving.ctx)
        assert await receiving.states() == [DeliveryState.FAILED] * 5
        assert receiving.server.requests == []


async def test_a_test_is_sent_at_once_though_the_receiver_was_failing(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(FINE) as receiving:
        async with sessions.begin() as session:
            failing = {
                "failing": 3,
                "failing_since": func.now(),
                "not_before": func.now() + timedelta(days=1),
            }
            await session.execute(update(WebhookEndpoint).values(**failing))
        waiting = await receiving.happens()
        await receiving.deliver()
        assert receiving.server.requests == []
        async with sessions.begin() as session:
            client = receiving.tenant.client
            sent = await send_test(session, client, receiving.endpoint, Cause("test"))
        await receiving.deliver()
        assert {request.headers["webhook-id"] for request in receiving.server.requests} == {
            *waiting,
            sent.delivery.event,
        }


async def test_what_is_sent_is_thin_and_verified(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as receiving:
        async with sessions.begin() as session:
            export = await an_export(session, receiving.tenant)
        await receiving.deliver()
        (request,) = receiving.server.requests
        async with sessions() as session:
            event = (await session.scalars(select(Event).where(Event.export == export.id))).one()
        assert (request.method, request.path) == ("POST", "/hook")
        assert request.headers["content-type"] == "application/json"
        assert request.headers["webhook-id"] == event.id
        assert verified(request, receiving.secret) == {
            "type": "export.created",
            "timestamp": event.created_at.isoformat().replace("+00:00", "Z"),
            "data": {
                "id": export.id,
                "status": "queued",
                "version": 1,
                "links": {"export": f"/v1/exports/{export.id}"},
            },
        }
        forged = replace(request, body=request.body.replace(b"queued", b"failed"))
        with pytest.raises(WebhookVerificationError):
            verified(forged, receiving.secret)
        (delivery,) = await receiving.deliveries()
        assert (delivery.state, delivery.tries) == (DeliveryState.DELIVERED, 1)
        assert delivery.attempts[0]["status"] == 204
        await receiving.deliver()
        assert len(receiving.server.requests) == 1


async def test_two_secrets_sign_for_a_day_after_a_rotation(
    receive: Receive, sessions: Sessions, vault: Vault
) -> None:
    async with receive(FINE) as receiving:
        async with sessions.begin() as session:
            client = receiving.tenant.client
            rotated = await rotate_secret(session, client, vault, receiving.endpoint, Cause("test"))
            new = vault.decrypt(rotated.secret)
        await receiving.happens()
        await receiving.deliver()
        verified(receiving.server.requests[0], receiving.secret, new)
        async with sessions.begin() as session:
            await session.execute(update(WebhookEndpoint).values(previous_until=func.now()))
        await receiving.happens()
        await receiving.deliver()
        verified(receiving.server.requests[1], new)
        with pytest.raises(WebhookVerificationError):
            verified(receiving.server.requests[1], receiving.secret)


async def hang(_: Request, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip(_: Request, writer: asyncio.StreamWriter) -> None:
    """An answer whose body never ends, by too little at a time for anybody to call it silent."""
    writer.write(answer(200, b"", length=1000))
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("handler", "status", "error"),
    [
        (BROKEN, 500, None),
        (answer(302, Location="http://127.0.0.1:1/elsewhere"), 302, None),
        (answer(404), 404, None),
        (b"nonsense\r\n\r\n", None, "RemoteProtocolError"),
        (answer(200, b"short", length=100), 200, "RemoteProtocolError"),
        (hang_up, None, "ReadError|RemoteProtocolError"),
        (hang, None, "no whole answer within 0.3 s"),
        (drip, 200, "no whole answer within 0.3 s"),
    ],
)
async def test_whatever_is_not_accepted_is_tried_again_after_five_seconds(
    receive: Receive, handler: Handler | bytes, status: int | None, error: str | None
) -> None:
    async with receive(handler) as receiving:
        hasty = receiving.ctx.settings.model_copy(update={"webhook_timeout_seconds": 0.3})
        receiving.ctx = replace(receiving.ctx, settings=hasty)
        await receiving.happens()
        await receiving.deliver()
        (delivery,) = await receiving.deliveries()
        assert (delivery.state, delivery.tries) == (DeliveryState.PENDING, 1)
        (attempt,) = delivery.attempts
        assert attempt["status"] == status
        assert any(part in (attempt["error"] or "") for part in (error or "").split("|"))
        assert bool(attempt["error"]) is bool(error)
        assert attempt["duration_ms"] < 5000
        assert 4 <= await receiving.pause() <= 5.5
        assert (await receiving.now()).failing_since is not None
        assert len(receiving.server.requests) == 1


async def test_an_endless_answer_is_read_no_further_than_needed(receive: Receive) -> None:
    sent = 0

    async def gush(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 Fine\r\n\r\n")
        while sent < 1 << 30:
            writer.write(b"." * 65536)
            sent += 65536
            await writer.drain()

    async with receive(gush) as receiving:
        await receiving.happens()
        await receiving.deliver()
        assert await receiving.states() == [DeliveryState.DELIVERED]
        assert sent < 64 << 20


async def test_a_receiver_that_is_away_is_tried_again(receive: Receive) -> None:
    async with receive(FINE) as receiving:
        pass
    await receiving.happens()
    await receiving.deliver()
    (delivery,) = await receiving.deliveries()
    assert (delivery.state, delivery.attempts[0]["status"]) == (DeliveryState.PENDING, None)
    assert delivery.attempts[0]["error"].startswith("ConnectError")


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    ctx: Context, sessions: Sessions, vault: Vault, tenant: Tenant, tmp_path: Path
) -> None:
    _, served = a_certificate("localhost", tmp_path)
    async with serving(always(FINE), served) as server:
        async with sessions.begin() as session:
            endpoint, secret = await an_endpoint(session, vault, tenant.client, server.url)
        receiving = Receiving(ctx, sessions, server, endpoint.id, secret, tenant)
        await receiving.happens()
        await receiving.deliver()
        assert "certificate" in (await receiving.deliveries())[0].attempts[0]["error"]
        assert server.requests == []


async def test_where_nothing_may_be_sent_nothing_is_sent(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as receiving:
        async with sessions.begin() as session:
            port = receiving.server.url.rpartition(":")[2]
            await session.execute(update(WebhookEndpoint).values(url=f"http://[::ffff:127.0.0.1]:{port}/"))
        await receiving.happens()
        await receiving.deliver()
        assert len(receiving.server.requests) == 1
        async with sessions.begin() as session:
            await session.execute(update(WebhookEndpoint).values(url=f"http://[::1]:{port}/"))
        await receiving.happens()
        await receiving.deliver()
        assert len(receiving.server.requests) == 1
        assert "TargetRefused: ::1 is at ::1" in (await receiving.deliveries())[1].attempts[0]["error"]


async def test_410_disables_the_endpoint_and_gives_up_what_waits(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(answer(410)) as receiving:
        await receiving.happens(3)
        await receiving.deliver()
        endpoint = await receiving.now()
        assert (endpoint.disabled_because, len(receiving.server.requests)) == (DisabledBecause.GONE, 1)
        assert await receiving.states() == [DeliveryState.FAILED] * 3
        async with sessions() as session:
            told = (
                await session.scalars(select(Event).where(Event.type == EventType.WEBHOOK_DISABLED))
            ).one()
        assert (told.data["endpoint"], told.data["because"]) == (receiving.endpoint, "gone")
        await receiving.happens()
        assert len(await receiving.deliveries()) == 3


async def test_the_pauses_grow_over_three_days_then_the_endpoint_is_given_up(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(BROKEN) as receiving:
        await receiving.happens()
        await receiving.deliver()
        for pause in (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400):
            assert 0.9 * pause - 2 <= await receiving.pause() <= 1.1 * pause + 2
            await receiving.deliver()
            await receiving.when_due()
        (delivery,) = await receiving.deliveries()
        assert (delivery.state, delivery.tries) == (DeliveryState.FAILED, 10)
        assert len({request.headers["webhook-id"] for request in receiving.server.requests}) == 1
        assert len(receiving.server.requests) == len(delivery.attempts) == 10
        assert (await receiving.now()).disabled_because is DisabledBecause.FAILING
        async with sessions() as session:
            (item,) = await attention(session, receiving.tenant.client, 60)
        assert (item.id, item.count) == (f"webhooks-failed.{receiving.endpoint}", 1)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_receiver_that_asks_for_it_is_left_alone(receive: Receive, status: int) -> None:
    async with receive(answer(status, Retry_After="120")) as receiving:
        await receiving.happens()
        await receiving.deliver()
        assert 118 <= await receiving.pause() <= 121
        await receiving.happens()
        await receiving.deliver()
        assert len(receiving.server.requests) == 1
        await receiving.when_due()
        assert len(receiving.server.requests) >= 2


async def test_others_do_not_wait_for_longer_than_the_receiver_asks_for(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(answer(503, Retry_After="2")) as receiving:
        await receiving.happens()
        for _ in range(2):
            await receiving.when_due()
        assert await receiving.pause() > 200
        async with sessions() as session:
            assert any(1 < job < 3 for job in await session.scalars(JOBS))


async def test_only_some_answers_may_ask_for_it(receive: Receive) -> None:
    async with receive(answer(500, Retry_After="120")) as receiving:
        await receiving.happens()
        await receiving.deliver()
        assert await receiving.pause() < 6


async def test_a_dead_receiver_costs_three_tries_at_a_time_however_much_waits_for_it(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(BROKEN) as receiving:
        await receiving.happens(10_000)
        for _ in range(20):
            await receiving.deliver()
            assert len(receiving.server.requests) == 3
        for tries in (6, 9, 12):
            await receiving.when_due()
            assert len(receiving.server.requests) == tries
        async with sessions.begin() as session:
            began = await session.scalar(select(func.clock_timestamp()))
            for _ in range(100):
                assert await claim_delivery(session, receiving.endpoint, 60) is None
            ended = await session.scalar(select(func.clock_timestamp()))
        assert began
        assert ended
        assert ended - began < timedelta(seconds=2)


async def test_what_waited_is_sent_once_the_receiver_is_well_again(receive: Receive) -> None:
    well = False

    async def recovering(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE if well else BROKEN)

    async with receive(recovering) as receiving:
        told = set(await receiving.happens(30))
        await receiving.deliver()
        well = True
        await receiving.when_due()
        assert await receiving.states() == [DeliveryState.DELIVERED] * 30
        assert {request.headers["webhook-id"] for request in receiving.server.requests} == told
        endpoint = await receiving.now()
        assert (endpoint.failing, endpoint.failing_since) == (0, None)


async def test_a_receiver_that_is_well_again_is_noticed_within_minutes(receive: Receive) -> None:
    well = False

    async def recovering(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(FINE if well else BROKEN)

    async with receive(recovering) as receiving:
        told = await receiving.happens(30)
        await receiving.deliver()
        well = True
        await receiving.deliver()
        assert len(receiving.server.requests) == 3
        await receiving.probe_is_due()
        await receiving.deliver()
        assert await receiving.states() == [DeliveryState.PENDING] * 3 + [DeliveryState.DELIVERED] * 27
        assert [request.headers["webhook-id"] for request in receiving.server.requests[3:]] == told[3:]


async def test_types_that_a_receiver_refuses_hold_up_others_for_minutes_only(receive: Receive) -> None:
    async def choosy(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(400) if request.headers["webhook-id"] in unwanted else FINE)

    async with receive(choosy) as receiving:
        unwanted = await receiving.happens(3)
        await receiving.deliver()
        wanted = await receiving.happens(5)
        await receiving.deliver()
        assert len(receiving.server.requests) == 3
        await receiving.probe_is_due()
        await receiving.deliver()
        assert [request.headers["webhook-id"] for request in receiving.server.requests[3:]] == wanted


async def test_a_probe_is_another_one_each_time_and_none_of_its_tries(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(BROKEN) as receiving:
        told = await receiving.happens(5)
        await receiving.deliver()
        for _ in range(3):
            await receiving.probe_is_due()
            await receiving.deliver()
            await receiving.deliver()
            async with sessions.begin() as session:
                assert any(240 < job <= 300 for job in await session.scalars(JOBS))
                await session.execute(
                    DUE.where(WebhookDelivery.tries == 0, WebhookDelivery.due_at > func.now())
                )
        sent = [request.headers["webhook-id"] for request in receiving.server.requests]
        assert sent == [*told[:3], told[3], told[4], told[3]]
        assert [delivery.tries for delivery in await receiving.deliveries()] == [1, 1, 1, 0, 0]
        assert [len(delivery.attempts) for delivery in await receiving.deliveries()] == [1, 1, 1, 2, 1]
        assert (await receiving.now()).failing == 3


async def test_several_workers_send_one_probe(receive: Receive) -> None:
    async with receive(BROKEN) as receiving:
        await receiving.happens(10)
        await receiving.deliver()
        await receiving.probe_is_due()
        claims = [receiving.ctx.write(claim_delivery, receiving.endpoint, 60) for _ in range(5)]
        held = [claimed for claimed in await asyncio.gather(*claims) if claimed]
        assert [claimed.probes for claimed in held] == [True]


async def test_a_receiver_that_asks_for_it_is_not_probed_either(receive: Receive) -> None:
    async with receive(answer(503, Retry_After="120")) as receiving:
        await receiving.happens(5)
        for _ in range(3):
            await receiving.when_due()
        assert len(receiving.server.requests) == 3
        await receiving.probe_is_due()
        await receiving.deliver()
        assert len(receiving.server.requests) == 3


async def test_a_probe_that_is_overdue_is_found(receive: Receive, sessions: Sessions) -> None:
    async with receive(BROKEN) as receiving:
        await receiving.happens(5)
        await receiving.deliver()
        async with sessions.begin() as session:
            await session.execute(
                DUE.values(due_at=func.now() + timedelta(hours=1)).where(WebhookDelivery.tries > 0)
            )
            await session.execute(
                DUE.values(due_at=func.now() - timedelta(hours=1)).where(WebhookDelivery.tries == 0)
            )
            await session.execute(text("DELETE FROM procrastinate_jobs"))
        for ago, jobs in ((timedelta(), 0), (timedelta(minutes=1), 1)):
            await receiving.probe_is_due(ago)
            await deliver_overdue(receiving.ctx)
            async with sessions() as session:
                assert len((await session.scalars(JOBS)).all()) == jobs


async def test_one_event_that_a_receiver_chokes_on_holds_up_no_other_and_disables_nothing(
    receive: Receive,
) -> None:
    poison = ""

    async def choke(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(BROKEN if request.headers["webhook-id"] == poison else FINE)

    async with receive(choke) as receiving:
        (poison,) = await receiving.happens()
        for _ in range(10):
            await receiving.when_due()
            (other,) = await receiving.happens()
            await receiving.deliver()
            assert receiving.server.requests[-1].headers["webhook-id"] == other
        assert await receiving.states() == [DeliveryState.FAILED] + [DeliveryState.DELIVERED] * 10
        endpoint = await receiving.now()
        assert (endpoint.disabled_at, endpoint.failing) == (None, 0)


async def test_several_that_it_chokes_on_do_not_hold_up_others_for_ever(receive: Receive) -> None:
    async def choke(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(BROKEN if request.headers["webhook-id"] in poison else FINE)

    async with receive(choke) as receiving:
        poison = set(await receiving.happens(3))
        for tries in range(1, 11):
            if tries == 2:
                # One that is accepted in between: afterwards they have not failed all along.
                async with receiving.sessions.begin() as session:
                    await session.execute(update(WebhookEndpoint).values(failing=0, failing_since=None))
            await receiving.when_due()
        assert await receiving.states() == [DeliveryState.FAILED] * 3
        await receiving.happens()
        await receiving.deliver()
        assert (await receiving.states())[-1] is DeliveryState.DELIVERED


async def test_a_receiver_that_hangs_takes_three_places_and_no_other_waits_for_it(
    receive: Receive, sessions: Sessions, vault: Vault
) -> None:
    hanging, most, leave = 0, 0, asyncio.Event()

    async def hang_a_while(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal hanging, most
        hanging += 1
        most = max(most, hanging)
        await leave.wait()
        hanging -= 1
        writer.write(FINE)

    async with receive(hang_a_while) as slow, receive(FINE) as quick:
        patient = slow.ctx.settings.model_copy(update={"webhook_timeout_seconds": 30.0})
        slow.ctx = replace(slow.ctx, settings=patient)
        await slow.happens(20)
        working = [asyncio.create_task(slow.deliver()) for _ in range(20)]

        async def turned_away() -> bool | None:
            return sum(task.done() for task in working) == 17 or None

        await until(turned_away, 20, lambda: "those that find no place")
        await quick.deliver()
        assert await quick.states() == [DeliveryState.DELIVERED] * 20
        leave.set()
        await asyncio.gather(*working)
        assert most == 3
        assert await slow.states() == [DeliveryState.DELIVERED] * 20


async def test_what_comes_while_all_places_look_for_the_last_time_is_sent_too(receive: Receive) -> None:
    async with receive(FINE) as receiving:
        ctx, late = receiving.ctx, list[EventId]()

        async def write(step: Any, *args: Any, **how: Any) -> Any:
            found = await ctx.write(step, *args, **how)
            if step is claim_delivery and found is None and not late:
                late.extend(await receiving.happens())
                await deliver_webhooks(one_place, endpoint=receiving.endpoint)
            return found

        one_place = replace(ctx, write=write, places=Places(1))
        await deliver_webhooks(one_place, endpoint=receiving.endpoint)
        assert [request.headers["webhook-id"] for request in receiving.server.requests] == late


async def test_the_turn_goes_to_others_after_a_while(
    receive: Receive, clock: MovedClock, sessions: Sessions
) -> None:
    async with receive(FINE) as receiving:
        await receiving.happens(50)
        clock.leap = 1.0
        await receiving.deliver()
        clock.leap = 0.0
        assert 0 < len(receiving.server.requests) < 50
        async with sessions() as session:
            assert len((await session.scalars(JOBS)).all()) == 2


async def test_what_a_worker_that_died_had_in_hand_is_sent_again(
    receive: Receive, sessions: Sessions
) -> None:
    async with receive(FINE) as receiving:
        (event,) = await receiving.happens()
        held = await receiving.ctx.write(claim_delivery, receiving.endpoint, 60)
        assert held
        await receiving.deliver()
        assert receiving.server.requests == []
        async with sessions.begin() as session:
            await session.execute(text("DELETE FROM procrastinate_jobs"))
        await deliver_overdue(receiving.ctx)
        async with sessions.begin() as session:
            assert (await session.scalars(JOBS)).all() == []
            await session.execute(DUE.values(due_at=func.now() - timedelta(minutes=1)))
        await deliver_overdue(receiving.ctx)
        async with sessions.begin() as session:
            assert len((await session.scalars(JOBS)).all()) == 1
        await receiving.deliver()
        assert [request.headers["webhook-id"] for request in receiving.server.requests] == [event]
        await deliver_overdue(receiving.ctx)
        async with sessions() as session:
            assert len((await session.scalars(JOBS)).all()) == 1


async def test_a_delivery_is_held_for_one_try_at_a_time(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as receiving:
        told = await receiving.happens(2)
        async with sessions.begin() as one, sessions.begin() as two:
            held = [await claim_delivery(session, receiving.endpoint, 60) for session in (one, two, one)]
        assert [claimed and claimed.event for claimed in held] == [*told, None]


async def test_who_is_no_client_any_more_is_sent_nothing(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as receiving:
        await receiving.happens()
        async with sessions.begin() as session:
            await revoke_client(session, receiving.tenant.client.id, Cause("test"))
        await receiving.deliver()
        assert receiving.server.requests == []
        async with sessions.begin() as session:
            await session.execute(text("DELETE FROM procrastinate_jobs"))
            await session.execute(DUE.values(due_at=func.now() - timedelta(minutes=1)))
        await deliver_overdue(receiving.ctx)
        async with sessions() as session:
            assert (await session.scalars(JOBS)).all() == []


async def test_what_an_old_try_tells_does_not_count(receive: Receive) -> None:
    async with receive(BROKEN) as receiving:
        await receiving.happens()
        old = await receiving.ctx.write(claim_delivery, receiving.endpoint, 60)
        assert old
        await receiving.when_due()
        before = (await receiving.deliveries())[0].attempts

        await receiving.ctx.write(refused, old, Attempt(500, None, 1), 5.0, "old")
        await receiving.ctx.write(accepted, old, Attempt(204, None, 1))
        (delivery,) = await receiving.deliveries()
        assert (delivery.attempts, delivery.state) == (before, DeliveryState.PENDING)


async def test_a_test_is_sent_to_one_endpoint_alone(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as tested, receive(FINE) as other:
        async with sessions.begin() as session:
            await send_test(session, tested.tenant.client, tested.endpoint, Cause("test"))
        await tested.deliver()
        await other.deliver()
        (request,) = tested.server.requests
        told = verified(request, tested.secret)
        assert (told["type"], told["data"]["id"]) == ("webhook.test", tested.endpoint)
        assert other.server.requests == []


async def test_what_ended_long_ago_is_forgotten(receive: Receive, sessions: Sessions) -> None:
    async with receive(FINE) as receiving:
        old, new, _ = await receiving.happens(3)
        await receiving.deliver()
        async with sessions.begin() as session:
            for event, days in ((old, 31), (new, 29)):
                await session.execute(
                    update(WebhookDelivery)
                    .where(WebhookDelivery.event == event)
                    .values(finished_at=func.now() - timedelta(days=days))
                )
        (waiting,) = await receiving.happens()
        await forget_deliveries(receiving.ctx)
        left = [delivery.event for delivery in await receiving.deliveries()]
        assert old not in left
        assert {new, waiting} <= set(left)


async def test_a_worker_sends_what_happens_by_itself(
    receive: Receive, database: Database, sessions: Sessions
) -> None:
    refusals = [BROKEN]

    async def sometimes(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(refusals.pop() if refusals else FINE)

    async with receive(sometimes) as receiving:
        working = asyncio.create_task(
            do_chores(receiving.ctx, database.listen_conninfo, chores=(), tasks=TASKS)
        )
        try:
            async with sessions.begin() as session:
                await record(session, EventType.CREDENTIAL_INVALID, actor="test")

            async def delivered() -> bool | None:
                return await receiving.states() == [DeliveryState.DELIVERED] or None

            await until(delivered, 30, lambda: f"the delivery of what happened, {receiving.server.requests}")
        finally:
            working.cancel()
            await asyncio.wait({working})
        assert len(receiving.server.requests) == 2
