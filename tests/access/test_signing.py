"""The keys that receipts are signed with: one for all processes, readable for nobody, served for ever."""

import asyncio

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.credentials import check_keys, rotate_keys
from app.access.models import SigningKey
from app.access.signing import new_signing_key, public_keys, signing_key
from app.access.vault import Vault, VaultError, open_vault
from app.events.log import Cause
from app.settings import Settings
from tests.conftest import a_secret_key
from tests.locks import until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]


async def used(sessions: Sessions, vault: Vault) -> str:
    async with sessions.begin() as session:
        return (await signing_key(session, vault)).thumbprint()


async def test_the_first_to_need_a_key_makes_it_and_all_others_use_it(
    sessions: Sessions, vault: Vault
) -> None:
    async with sessions.begin() as session:
        first = (await signing_key(session, vault)).thumbprint()
        another = asyncio.create_task(used(sessions, vault))
        await until_somebody_waits(sessions)
    assert {await another, await used(sessions, vault)} == {first}
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(SigningKey)) == 1


async def test_a_new_key_signs_from_then_on_and_the_old_one_stays_known(
    sessions: Sessions, vault: Vault
) -> None:
    old = await used(sessions, vault)
    async with sessions.begin() as session:
        new = (await new_signing_key(session, vault)).id
    assert await used(sessions, vault) == new
    async with sessions() as session:
        assert [key["kid"] for key in await public_keys(session)] == [new, old]


async def test_the_private_half_is_kept_encrypted(sessions: Sessions, vault: Vault) -> None:
    async with sessions.begin() as session:
        private = (await signing_key(session, vault)).as_dict(private=True)["d"]
        pair = (await session.scalars(select(SigningKey))).one()
        assert str(private).encode() not in pair.private
        assert all("d" not in public for public in await public_keys(session))


async def test_a_new_secret_key_encrypts_keys_that_sign_too(
    sessions: Sessions, vault: Vault, settings: Settings
) -> None:
    signs = await used(sessions, vault)
    new: SecretStr = a_secret_key()
    both = settings.model_copy(update={"secret_keys": (new, *settings.secret_keys)})
    await rotate_keys(sessions, both, Cause("test"))
    only_new = open_vault(settings.model_copy(update={"secret_keys": (new,)}))
    assert await used(sessions, only_new) == signs


async def test_a_service_that_could_not_sign_does_not_start(sessions: Sessions, vault: Vault) -> None:
    await used(sessions, vault)
    stranger = Vault(lambda: (a_secret_key(),))
    async with sessions() as session:
        with pytest.raises(VaultError):
            await check_keys(session, stranger)
