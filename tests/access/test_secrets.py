"""Tokens at rest and API keys."""

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import func, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientSpec, GrantSpec, client_by_key, create_client
from app.access.models import Kind, Priority, Scope
from app.access.vault import Vault, VaultError, open_vault
from app.events.log import Cause
from app.settings import Settings
from tests.conftest import a_secret_key

Sessions = async_sessionmaker[AsyncSession]


def a_vault(*keys: SecretStr) -> Vault:
    return Vault(lambda: keys)


def test_a_token_is_not_readable_at_rest_and_comes_back() -> None:
    vault = a_vault(a_secret_key())
    encrypted = vault.encrypt(SecretStr("1/4711:secret"))
    assert b"4711" not in encrypted
    assert vault.decrypt(encrypted).get_secret_value() == "1/4711:secret"


def test_keys_rotate_by_putting_a_new_one_first() -> None:
    old, new = a_secret_key(), a_secret_key()
    encrypted = a_vault(old).encrypt(SecretStr("token"))
    assert a_vault(new, old).decrypt(encrypted).get_secret_value() == "token"
    with pytest.raises(VaultError):
        a_vault(new).decrypt(encrypted)


def test_beside_the_embedded_database_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    encrypted = open_vault(settings).encrypt(SecretStr("token"))
    assert open_vault(settings).decrypt(encrypted).get_secret_value() == "token"
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_with_a_database_of_ones_own_keys_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="ASANA_EXPORTS_SECRET_KEYS"):
        open_vault(Settings(data_dir=tmp_path, database_url="postgresql://localhost/x"))


def test_a_malformed_key_is_refused() -> None:
    with pytest.raises(VaultError, match="32 bytes"):
        a_vault(SecretStr("short"))


async def test_a_key_opens_for_its_client_until_revoked(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        client, key = await create_client(
            session, ClientSpec(name="bi", scopes=(Scope.EXPORTS_READ,)), Cause("test")
        )
        stored = await session.scalar(text("SELECT encode(key_hash, 'escape') FROM clients"))
        assert key.rsplit("_", 1)[-1] not in stored
    async with sessions.begin() as session:
        found = await client_by_key(session, key)
        assert found is not None
        assert found.id == client.id
        for wrong in ("", "x", key[:-1], key + "x", key.replace("aex", "key", 1), "aex_x_y"):
            assert await client_by_key(session, wrong) is None
        found.revoked_at = func.now()
    async with sessions() as session:
        assert await client_by_key(session, key) is None


async def test_a_grant_that_names_the_workspace_goes_before_one_for_all(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        grants = [GrantSpec(workspace=gid, kinds=(Kind.RESOURCE,)) for gid in ("*", "1001")]
        client, _ = await create_client(
            session, ClientSpec(name="bi", scopes=(Scope.EXPORTS_WRITE,), grants=tuple(grants)), Cause("test")
        )
        client.grants[0].highest_priority = Priority.LOW
        named = client.grant_for("1001", Kind.RESOURCE)
        general = client.grant_for("1002", Kind.RESOURCE)
    assert named is not None
    assert general is not None
    assert (named.workspace, general.workspace) == ("1001", "*")
    assert client.grant_for("1001", Kind.GRAPH) is None
    assert client.may(Scope.EXPORTS_WRITE)
    assert not client.may(Scope.ADMIN)
