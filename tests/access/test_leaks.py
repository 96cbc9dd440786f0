"""What looks for secrets in the output of all tests knows them when it sees them."""

import pytest
from pydantic import SecretStr, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.settings import Settings
from tests.builders import SERVICE_TOKEN, a_tenant
from tests.conftest import a_secret_key
from tests.leaks import leaks, leaks_at_rest

Sessions = async_sessionmaker[AsyncSession]


async def test_each_kind_of_secret_is_known(sessions: Sessions, vault: Vault) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    for secret in (SERVICE_TOKEN, tenant.key, a_secret_key().get_secret_value()):
        assert leaks(f"Authorization: Bearer {secret}, as was said") == {secret}
    assert not leaks("sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef exp_0199")


async def test_a_secret_at_rest_is_found_in_whatever_table(sessions: Sessions, vault: Vault) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    assert not await leaks_at_rest(sessions)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE clients SET name = :key"), {"key": tenant.key})
    assert await leaks_at_rest(sessions) == {tenant.key}


@pytest.mark.parametrize("show", [repr, str])
async def test_nothing_that_holds_a_secret_shows_it(
    sessions: Sessions, vault: Vault, settings: Settings, show: type[str]
) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        known = vault.decrypt(vault.encrypt(SecretStr(SERVICE_TOKEN)))
        shown = [show(thing) for thing in (settings, vault, vars(vault), known, tenant.client)]
    assert not leaks(" ".join(shown))
    password = settings.model_copy(update={"database_url": "postgresql://me:hush@host/name"})
    assert "hush" not in show(password)


async def test_an_error_of_the_database_does_not_show_what_was_written(sessions: Sessions) -> None:
    with pytest.raises(DBAPIError) as failed:
        async with sessions.begin() as session:
            await session.execute(text("SELECT 1 / 0, CAST(:token AS text)"), {"token": "planted-token"})
    assert not leaks(str(failed.value))


def test_an_error_of_the_settings_does_not_show_the_value() -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(database_url="mysql://me:planted-token@host/name")
    assert not leaks(str(refused.value))
