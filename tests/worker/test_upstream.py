"""What Asana says of a token, and of which one it says it."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import func, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Credential, CredentialState
from app.access.vault import Vault
from app.asana.errors import NotAuthorized, RateLimited
from app.clock import SystemClock
from app.database.session import Database
from app.ids import CredentialId
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.settings import Settings
from app.worker.context import Context
from app.worker.process import worker_context
from tests.builders import Tenant, an_export
from tests.locks import until_somebody_waits
from tests.worker.conftest import begun

Sessions = async_sessionmaker[AsyncSession]


def at_once() -> None:
    """Nothing speaks against asking."""


async def test_a_limit_that_one_worker_meets_holds_for_all(
    ctx: Context,
    hasty: Settings,
    database: Database,
    sessions: Sessions,
    tenant: Tenant,
    sandbox: SandboxControl,
) -> None:
    credential = CredentialId(tenant.credential)
    async with sessions.begin() as session:
        await an_export(session, tenant)
    _, run = await begun(ctx)
    sandbox.add_fault(Call.RESOURCE, FaultKind.STATUS, status=429, retry_after=90)
    async with worker_context(hasty, database, SystemClock()) as other:
        assert await other.upstream.held_for(credential) <= 0
        with pytest.raises(RateLimited):
            await ctx.upstream.start(run, at_once)
        # As a notification makes it do.
        other.upstream.forget(credential)
        assert await other.upstream.held_for(credential) > 0


async def test_a_refused_token_wakes_none_of_those_who_wait_for_another(
    ctx: Context, sessions: Sessions, tenant: Tenant, sandbox: SandboxControl
) -> None:
    """Each would be refused, and wake the others in its turn."""
    async with sessions.begin() as session:
        await an_export(session, tenant)
    _, run = await begun(ctx)
    waiting = asyncio.create_task(ctx.upstream.until_changed(run.credential, 600))
    sandbox.revoke_token("service")
    with pytest.raises(NotAuthorized):
        await ctx.upstream.start(run, at_once)
    assert not waiting.done()
    # As a notification makes it do.
    ctx.upstream.forget(run.credential)
    await asyncio.wait_for(waiting, 60)


async def test_a_token_that_is_replaced_while_it_is_read_is_read_again(
    ctx: Context, sessions: Sessions, tenant: Tenant
) -> None:
    credential = CredentialId(tenant.credential)
    async with sessions.begin() as session:
        await session.execute(text("LOCK TABLE credentials"))
        looking = asyncio.create_task(ctx.upstream.held_for(credential))
        await until_somebody_waits(sessions)
        # Of a change of another moment than that of the read.
        ctx.upstream.forget(credential)
    assert await looking <= 0
    async with sessions.begin() as session:
        await session.execute(update(Credential).values(limited_until=func.now() + timedelta(seconds=90)))
    assert await ctx.upstream.held_for(credential) > 0


async def test_a_late_refusal_of_the_token_before_changes_nothing(
    ctx: Context, sessions: Sessions, vault: Vault, tenant: Tenant, sandbox: SandboxControl
) -> None:
    async with sessions.begin() as session:
        await an_export(session, tenant)
    _, run = await begun(ctx)
    await ctx.upstream.held_for(run.credential)
    async with sessions.begin() as session:
        replaced = await session.get_one(Credential, tenant.credential)
        replaced.token, replaced.updated_at = vault.encrypt(SecretStr("another")), func.now()
    sandbox.revoke_token("service")
    with pytest.raises(NotAuthorized):
        await ctx.upstream.start(run, at_once)
    async with sessions() as session:
        assert (await session.get_one(Credential, tenant.credential)).state is CredentialState.VALID
