"""Who is told of an event: whoever wants it and may see it, in the transaction in which it happens."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientSpec, GrantSpec, create_client, revoke_client
from app.access.models import Client, Grant, Scope
from app.access.vault import Vault
from app.events.log import Cause, EventType, new_event, record, record_all
from app.events.public import PUBLIC
from app.exports.cancel import cancel
from app.exports.models import Export
from app.ids import CredentialId, EndpointId, LaneKey
from app.lanes.control import pause
from app.webhooks.endpoints import delete_endpoint, disable
from app.webhooks.models import DisabledBecause, WebhookDelivery, WebhookEndpoint
from tests.builders import Tenant, a_schedule, a_tenant, an_endpoint, an_export, another_workspace
from tests.locks import until_it_waits

Sessions = async_sessionmaker[AsyncSession]
JOBS = text("SELECT args ->> 'endpoint' FROM procrastinate_jobs WHERE task_name = 'deliver_webhooks'")


@dataclass
class World:
    """An administrator, who makes exports in the workspaces 1001 and 1002, and others who would be told."""

    sessions: Sessions
    vault: Vault
    tenant: Tenant
    endpoints: dict[str, EndpointId]

    async def client(self, name: str, *workspaces: str, scope: Scope = Scope.EXPORTS_READ) -> Client:
        grants = tuple(GrantSpec(workspace=each) for each in workspaces)
        async with self.sessions.begin() as session:
            spec = ClientSpec(name=name, scopes=(scope, Scope.EXPORTS_WRITE), grants=grants)
            client, _ = await create_client(session, spec, Cause("test"))
        return client

    async def endpoint(self, name: str, client: Client, **spec: Any) -> None:
        async with self.sessions.begin() as session:
            endpoint, _ = await an_endpoint(session, self.vault, client, **spec)
        self.endpoints[name] = endpoint.id

    async def export(self, client: Client, workspace: str = "1001") -> Export:
        async with self.sessions.begin() as session:
            tenant = Tenant(client, "", workspace, self.tenant.credential)
            return await an_export(session, tenant)

    async def told(self) -> set[str]:
        """Whose endpoints are told of what has happened since the last look; each is woken."""
        names = {endpoint: name for name, endpoint in self.endpoints.items()}
        async with self.sessions.begin() as session:
            told = {names[each] for each in await session.scalars(select(WebhookDelivery.endpoint))}
            woken = [names[EndpointId(each)] for each in await session.scalars(JOBS)]
            await session.execute(delete(WebhookDelivery))
            await session.execute(text("DELETE FROM procrastinate_jobs"))
        assert set(woken) == told
        return told


@pytest.fixture
async def world(sessions: Sessions, vault: Vault) -> World:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        await another_workspace(session, tenant, "1002")
    return World(sessions, vault, tenant, {})


async def test_of_an_export_its_owner_is_told_and_administrators(world: World) -> None:
    owner, other = await world.client("owner", "1001"), await world.client("other", "*")
    await world.endpoint("admin", world.tenant.client)
    await world.endpoint("owner", owner)
    await world.endpoint("other", other)
    await world.export(owner)
    assert await world.told() == {"admin", "owner"}


async def test_who_has_lost_its_scope_or_its_key_is_told_nothing(world: World) -> None:
    clients = [
        await world.client(name, "1001") for name in ("granted", "not_granted", "not_reading", "revoked")
    ]
    exports = []
    for client in clients:
        await world.endpoint(client.name, client)
        exports.append(await world.export(client))
    await world.told()
    async with world.sessions.begin() as session:
        await session.execute(delete(Grant).where(Grant.client == clients[1].id))
        await session.execute(
            update(Client).where(Client.id == clients[2].id).values(scopes=["exports:write"])
        )
        await revoke_client(session, clients[3].id, Cause("test"))
        for export in exports:
            await cancel(session, export.id, actor="test", request_id=None)
    # Its own exports are still its own.
    assert await world.told() == {"granted", "not_granted"}


async def test_of_a_lane_those_are_told_who_have_a_grant_for_its_workspace(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    for name, workspaces in {
        "here": ["1001"],
        "everywhere": ["*"],
        "elsewhere": ["1002"],
        "nowhere": [],
    }.items():
        await world.endpoint(name, await world.client(name, *workspaces))
    async with world.sessions.begin() as session:
        await pause(session, LaneKey("1001"), "1001", Cause("test"))
    assert await world.told() == {"admin", "here", "everywhere"}


async def test_of_an_invalid_credential_administrators_are_told(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    await world.endpoint("admin here", world.tenant.client, workspaces=("1001",))
    await world.endpoint("other", await world.client("other", "*"))
    async with world.sessions.begin() as session:
        credential = CredentialId(world.tenant.credential)
        await record(session, EventType.CREDENTIAL_INVALID, actor="asana", credential=credential)
    assert await world.told() == {"admin"}


async def test_of_a_file_those_are_told_who_have_an_export_with_it(world: World) -> None:
    """Written by hand, for files expire without anybody's doing."""
    owner, canceled = await world.client("owner", "1001"), await world.client("canceled", "1001")
    exports = [await world.export(owner), await world.export(canceled)]
    await world.endpoint("admin", world.tenant.client)
    for client in (owner, canceled, await world.client("other", "*")):
        await world.endpoint(client.name, client)
    await world.told()
    async with world.sessions.begin() as session:
        await session.execute(
            update(Export)
            .where(Export.id == exports[0].id)
            .values(status="succeeded", finished_at=func.now())
        )
        await session.execute(update(Export).where(Export.id == exports[1].id).values(run=exports[0].run))
        event = new_event(
            EventType.EXPORT_CREATED, actor="test", run=exports[0].run, lane=LaneKey("1001"),
            data={"artifact": "art_1"},
        )  # fmt: skip
        await record_all(session, [event | {"type": "artifact.expired"}])
    assert await world.told() == {"admin", "owner"}


async def test_of_a_schedule_its_client_is_told_and_administrators(world: World) -> None:
    owner, other = await world.client("owner", "1001"), await world.client("other", "*")
    for client in (world.tenant.client, owner, other):
        await world.endpoint(client.name, client)
    async with world.sessions.begin() as session:
        tenant = Tenant(owner, "", "1001", world.tenant.credential)
        schedule = await a_schedule(session, tenant, datetime.now(UTC))
        await record(
            session,
            EventType.SCHEDULE_SKIPPED,
            actor="test",
            lane=LaneKey("1001"),
            data={"schedule": schedule},
        )
    assert await world.told() == {world.tenant.client.name, "owner"}


async def test_an_endpoint_is_told_of_the_types_and_workspaces_it_names(world: World) -> None:
    admin = world.tenant.client
    await world.endpoint("created", admin, types=("export.created",))
    await world.endpoint("canceled", admin, types=("export.canceled", "lane.paused"))
    await world.endpoint("1002", admin, workspaces=("1002",))
    await world.endpoint("created in 1002", admin, types=("export.created",), workspaces=("1002",))
    export = await world.export(admin)
    assert await world.told() == {"created"}
    await world.export(admin, "1002")
    assert await world.told() == {"created", "1002", "created in 1002"}
    async with world.sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
    assert await world.told() == {"canceled"}


async def test_a_disabled_endpoint_is_told_nothing(world: World) -> None:
    await world.endpoint("disabled", world.tenant.client, disabled=True)
    await world.endpoint("disabled later", world.tenant.client)
    async with world.sessions.begin() as session:
        later = await session.get_one(WebhookEndpoint, world.endpoints["disabled later"])
        await disable(session, later, DisabledBecause.ASKED)
    await world.export(world.tenant.client)
    assert await world.told() == set()


async def test_what_is_not_public_is_told_nobody(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    async with world.sessions.begin() as session:
        for kind in EventType:
            if kind.partition(".")[0] in {"client", "secrets", "workspace", "webhook", "attention"}:
                await record(session, kind, actor="test")
        await record(session, EventType.EXPORT_PROGRESSED, actor="test", lane=LaneKey("1001"))
    assert await world.told() == set()


@pytest.mark.parametrize("kind", sorted(PUBLIC))
async def test_each_public_event_has_a_delivery(world: World, kind: str) -> None:
    """Also those of which the log of this version writes none yet."""
    await world.endpoint("admin", world.tenant.client)
    await world.endpoint("just this", world.tenant.client, types=(kind,))
    async with world.sessions.begin() as session:
        await record_all(session, [new_event(EventType.LANE_PAUSED, actor="test") | {"type": kind}])
    assert await world.told() == {"admin", "just this"}


async def test_what_is_taken_back_is_told_nobody(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    async with world.sessions() as session:
        await an_export(session, world.tenant)
        assert await session.scalar(select(func.count()).select_from(WebhookDelivery)) == 1
        await session.rollback()
    assert await world.told() == set()


async def test_an_endpoint_that_is_deleted_meanwhile_fails_no_event(world: World) -> None:
    admin = world.tenant.client
    await world.endpoint("admin", admin)
    async with world.sessions.begin() as session:
        await delete_endpoint(session, admin, world.endpoints["admin"], Cause("test"))
        asking = asyncio.create_task(world.export(admin))
        await until_it_waits(world.sessions, asking)
    await asking
    assert await world.told() == set()


async def test_many_events_wake_an_endpoint_once(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    async with world.sessions.begin() as session:
        await record_all(session, [new_event(EventType.CREDENTIAL_INVALID, actor="test") for _ in range(100)])
        assert len((await session.scalars(JOBS)).all()) == 1
        assert await session.scalar(select(func.count()).select_from(WebhookDelivery)) == 100


async def test_a_deleted_endpoint_takes_its_deliveries_along(world: World) -> None:
    await world.endpoint("admin", world.tenant.client)
    await world.export(world.tenant.client)
    async with world.sessions.begin() as session:
        await session.execute(delete(WebhookEndpoint))
        assert await session.scalar(select(func.count()).select_from(WebhookDelivery)) == 0
