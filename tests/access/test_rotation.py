"""Another key for the tokens at rest, while everything goes on."""

import asyncio
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.credentials import check_keys, rotate_keys
from app.access.models import Credential
from app.access.signing import new_signing_key
from app.access.vault import Vault, VaultError, open_vault, renew_own_key
from app.database.base import NO_KEY_UPDATE
from app.events.log import Cause, Event, EventType
from app.settings import Settings
from app.webhooks.endpoints import rotate_secret
from app.webhooks.models import WebhookEndpoint
from tests.builders import a_tenant, an_endpoint, another_credential
from tests.conftest import a_secret_key
from tests.locks import until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]
CAUSE = Cause("test")


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """Keys in the data folder."""
    return Settings(data_dir=tmp_path)


async def tokens(sessions: Sessions) -> list[bytes]:
    async with sessions() as session:
        return list(await session.scalars(select(Credential.token).order_by(Credential.id)))


async def test_all_tokens_get_the_new_key_and_running_processes_read_them(
    sessions: Sessions, own: Settings
) -> None:
    running = open_vault(own)
    async with sessions.begin() as session:
        await a_tenant(session, running, token="first")
        await another_credential(session, running, "second")
    before = (own.data_dir / "secret.key").read_text()
    assert await rotate_keys(sessions, own, CAUSE) == 2
    only_new = open_vault(own.model_copy(update={"secret_keys": keys_of(own)[:1]}))
    for vault in (running, only_new):
        assert [vault.decrypt(token).get_secret_value() for token in await tokens(sessions)] == [
            "first",
            "second",
        ]
    with pytest.raises(VaultError):
        open_vault(own.model_copy(update={"secret_keys": (SecretStr(before.strip()),)})).decrypt(
            (await tokens(sessions))[0]
        )
    async with sessions() as session:
        told = (await session.scalars(select(Event).where(Event.type == EventType.SECRETS_ROTATED))).one()
        assert told.data == {"credentials": 2}


async def test_everything_that_is_secret_gets_the_new_key(sessions: Sessions, own: Settings) -> None:
    running = open_vault(own)
    async with sessions.begin() as session:
        tenant = await a_tenant(session, running)
        await new_signing_key(session, running)
        endpoint, old = await an_endpoint(session, running, tenant.client)
        new = running.decrypt(
            (await rotate_secret(session, tenant.client, running, endpoint.id, CAUSE)).secret
        )
    await rotate_keys(sessions, own, CAUSE)
    only_new = open_vault(own.model_copy(update={"secret_keys": keys_of(own)[:1]}))
    async with sessions() as session:
        await check_keys(session, only_new)
        kept = await session.get_one(WebhookEndpoint, endpoint.id)
        assert only_new.decrypt(kept.secret) == new
        assert only_new.decrypt(kept.previous_secret or b"") == old
        with pytest.raises(VaultError):
            await check_keys(session, open_vault(own.model_copy(update={"secret_keys": (a_secret_key(),)})))


async def test_the_last_key_stays_for_who_was_about_to_use_it_and_older_ones_go(
    sessions: Sessions, own: Settings
) -> None:
    open_vault(own)
    seen = list(keys_of(own))
    for _ in range(3):
        await rotate_keys(sessions, own, CAUSE)
        assert keys_of(own)[1:] == tuple(seen[-1:])
        seen.append(keys_of(own)[0])


async def test_a_key_that_a_token_needs_is_kept(sessions: Sessions, own: Settings) -> None:
    """A rotation was killed after it had made the key, before it had used it."""
    async with sessions.begin() as session:
        await a_tenant(session, open_vault(own), token="kept")
    renew_own_key(own, await tokens(sessions))
    renew_own_key(own, await tokens(sessions))
    await rotate_keys(sessions, own, CAUSE)
    async with sessions() as session:
        await check_keys(session, open_vault(own))


async def test_without_the_right_key_nothing_is_changed(
    sessions: Sessions, own: Settings, settings: Settings
) -> None:
    async with sessions.begin() as session:
        await a_tenant(session, open_vault(settings))
    before = await tokens(sessions)
    with pytest.raises(VaultError, match=r"no key in .*secret.key"):
        await rotate_keys(sessions, own, CAUSE)
    assert await tokens(sessions) == before
    async with sessions() as session:
        assert await session.scalar(select(Event).where(Event.type == EventType.SECRETS_ROTATED)) is None


async def test_a_token_that_is_being_replaced_is_waited_for(
    sessions: Sessions, vault: Vault, settings: Settings
) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    async with sessions.begin() as session:
        credential = await session.get_one(Credential, tenant.credential, with_for_update=NO_KEY_UPDATE)
        rotation = asyncio.create_task(rotate_keys(sessions, settings, CAUSE))
        await until_somebody_waits(sessions)
        credential.token = vault.encrypt(SecretStr("replaced"))
    assert await rotation == 1
    assert [vault.decrypt(token).get_secret_value() for token in await tokens(sessions)] == ["replaced"]


def test_a_file_of_keys_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    running = Settings(database_url="postgresql://localhost/x", secret_keys_file=file)
    with pytest.raises(VaultError, match="cannot be read"):
        open_vault(running)
    file.touch()
    with pytest.raises(VaultError, match="there is no key in"):
        open_vault(running)
    old, new = (keys_of(Settings(data_dir=made(tmp_path / name)))[0].get_secret_value() for name in "ab")
    file.write_text(old)
    vault = open_vault(running)
    file.write_text(f"{new}\n{old}\n")
    encrypted = vault.encrypt(SecretStr("token"))
    file.write_text(new)
    assert open_vault(running).decrypt(encrypted).get_secret_value() == "token"
    assert vault.decrypt(encrypted).get_secret_value() == "token"


def made(folder: Path) -> Path:
    open_vault(Settings(data_dir=folder))
    return folder


def keys_of(settings: Settings) -> tuple[SecretStr, ...]:
    return tuple(SecretStr(key) for key in (settings.data_dir / "secret.key").read_text().split())
