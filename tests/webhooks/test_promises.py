"""The checker of webhooks finds every kind of broken promise, and nothing else."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientChanges, change_client
from app.access.vault import Vault
from app.events.log import Cause, EventType, record
from app.exports.history import Promise, violations
from app.ids import EndpointId
from app.webhooks.endpoints import disable
from app.webhooks.models import DisabledBecause, WebhookEndpoint
from tests.builders import Tenant, a_tenant, an_endpoint, an_export

Sessions = async_sessionmaker[AsyncSession]

LOST = "DELETE FROM webhook_deliveries"
LATE = "UPDATE webhook_deliveries SET due_at = now() - interval '1 hour'"
NO_JOBS = "DELETE FROM procrastinate_jobs"
ACCEPTED = """
    UPDATE webhook_deliveries SET state = 'delivered', finished_at = now(), tries = 1,
        attempts = '[{"status": 500, "error": null}, {"status": 204, "error": null}]'
"""
GIVEN_UP = "UPDATE webhook_deliveries SET state = 'failed', finished_at = now(), tries = "


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


@pytest.fixture
async def told(sessions: Sessions, vault: Vault, tenant: Tenant) -> EndpointId:
    """An endpoint that was made long ago, and an event that waits to be sent there."""
    async with sessions.begin() as session:
        endpoint, _ = await an_endpoint(session, vault, tenant.client)
    await do(sessions, "UPDATE webhook_endpoints SET updated_at = now() - interval '1 hour'")
    async with sessions.begin() as session:
        await an_export(session, tenant)
    return endpoint.id


async def do(sessions: Sessions, *statements: str) -> None:
    async with sessions.begin() as session:
        await session.execute(text("ALTER TABLE events DISABLE TRIGGER events_never_change"))
        for statement in statements:
            await session.execute(text(statement))


async def found(sessions: Sessions, **how: Any) -> list[str]:
    async with sessions() as session:
        broken = [each async for each in violations(session, **how)]
    assert {each.promise for each in broken} <= {Promise.TOLD}
    return [each.detail for each in broken]


@pytest.mark.parametrize(
    "happened",
    [
        (),
        (LATE,),
        (NO_JOBS,),
        (ACCEPTED, NO_JOBS),
        (GIVEN_UP + "10",),
        (LATE, NO_JOBS, "UPDATE webhook_endpoints SET failing = 3, probe_at = now()"),
        (LATE, NO_JOBS, "UPDATE webhook_endpoints SET not_before = now() + interval '1 hour'"),
        (LATE, NO_JOBS, "UPDATE clients SET revoked_at = now()"),
        (LOST, "UPDATE webhook_endpoints SET updated_at = now()"),
        (LOST, "UPDATE webhook_endpoints SET types = '{lane.paused}'"),
        (LOST, "UPDATE webhook_endpoints SET workspaces = '{7777}'"),
        (LOST, "UPDATE webhook_endpoints SET disabled_at = now(), disabled_because = 'asked'"),
        (LOST, "UPDATE events SET created_at = now() - interval '2 hours'"),
    ],
)
async def test_what_is_as_it_should_be_is_no_violation(
    sessions: Sessions, told: EndpointId, happened: tuple[str, ...]
) -> None:
    assert told
    await do(sessions, *happened)
    assert await found(sessions) == []


@pytest.mark.parametrize(
    ("planted", "detail"),
    [
        ((LOST,), "has no delivery of"),
        ((ACCEPTED.replace("204", "302"),), "is delivered, but its tries do not tell so"),
        ((ACCEPTED.replace('204, "error": null', '204, "error": "cut"'),), "is delivered, but"),
        (("UPDATE webhook_deliveries SET state = 'delivered', finished_at = now()",), "is delivered, but"),
        ((GIVEN_UP + "9",), "is failed, but its tries do not tell so"),
        ((LATE, NO_JOBS), "has something to be sent that nothing will wake it for"),
        ((LATE, "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 day'"), "has something"),
    ],
)
async def test_a_planted_violation_is_found(
    sessions: Sessions, told: EndpointId, planted: tuple[str, ...], detail: str
) -> None:
    await do(sessions, *planted)
    (violation,) = await found(sessions)
    assert detail in violation


async def test_what_an_endpoint_waited_for_when_it_was_disabled_may_be_given_up(
    sessions: Sessions, told: EndpointId
) -> None:
    async with sessions.begin() as session:
        endpoint = await session.get_one(WebhookEndpoint, told)
        await disable(session, endpoint, DisabledBecause.GONE)
    assert len(await found(sessions)) == 1
    async with sessions.begin() as session:
        await record(session, EventType.WEBHOOK_DISABLED, actor="test", data=endpoint.facts)
    assert await found(sessions) == []


async def test_who_was_changed_since_may_not_have_wanted_it(
    sessions: Sessions, told: EndpointId, tenant: Tenant
) -> None:
    await do(sessions, LOST)
    assert len(await found(sessions)) == 1
    async with sessions.begin() as session:
        await change_client(session, tenant.client.id, ClientChanges(max_queued=7), Cause("test"))
    assert await found(sessions) == []


async def test_deliveries_may_be_forgotten_when_they_are_old(sessions: Sessions, told: EndpointId) -> None:
    days = "interval '31 days'"
    await do(
        sessions,
        LOST,
        f"UPDATE webhook_endpoints SET updated_at = now() - {days} - {days}",
        f"UPDATE events SET created_at = now() - {days}",
    )
    assert len(await found(sessions, webhook_days=32)) == 1
    assert await found(sessions, webhook_days=30) == []
