"""Asana tokens: checked with Asana, kept encrypted, replaced without losing what waits for them."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from pydantic import SecretStr
from sqlalchemy import Select, func, select, text, true, union_all, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Client, Credential, CredentialState, Workspace
from app.access.vault import Vault, open_vault, renew_own_key
from app.asana.client import AsanaClient
from app.asana.errors import (
    AsanaError,
    Forbidden,
    NotAuthorized,
    NotFound,
    PlanRequired,
    RateLimited,
    Refused,
)
from app.asana.schemas import User
from app.database.base import NO_KEY_UPDATE, encrypted_columns
from app.events.log import Cause, EventType, audit, record
from app.ids import CredentialId, new_credential_id
from app.lanes.notifications import CREDENTIALS, LANES, notify
from app.problems import Code, ProblemError
from app.settings import Settings

Sessions = async_sessionmaker[AsyncSession]

# Before the token is written: a worker that has found it invalid parks the lane under the lane's lock, so
# either that is committed and we wake the lane, or the worker finds the new token. That of a running run is
# locked too: refused, it is about to be queued again. Ordered, as all who lock several lanes must.
LOCK_LANES = text("""
    SELECT FROM lanes
    WHERE key IN (SELECT lane FROM runs WHERE credential = :credential AND status IN ('queued', 'running'))
    ORDER BY key
    FOR UPDATE
""")
WAKE_LANES = text("""
    UPDATE lanes SET wait_reason = NULL, next_attempt_at = now()
    WHERE wait_reason = 'credential_invalid'
      AND key IN (SELECT lane FROM runs WHERE credential = :credential AND status = 'queued')
""")

LOCK_SECRETS = text("LOCK TABLE credentials, signing_keys, webhook_endpoints IN EXCLUSIVE MODE")


async def register_credential(
    sessions: Sessions, vault: Vault, asana: AsanaClient, name: str, token: SecretStr, cause: Cause
) -> Credential:
    """Keep a new token under a name. Raises `ProblemError` when Asana refuses it or the name is taken."""
    user = await _owner(asana, token)
    credential = Credential(id=new_credential_id(), name=name)
    _set_token(credential, vault, token, user)
    try:
        async with sessions.begin() as session:
            session.add(credential)
            await session.flush()
            await session.refresh(credential)
            await audit(
                session,
                EventType.CREDENTIAL_REGISTERED,
                cause,
                credential=credential.id,
                data=_public(user),
            )
    except IntegrityError:
        raise ProblemError(Code.CONFLICT, f"There is a credential named {name!r} already.") from None
    return credential


async def replace_token(
    sessions: Sessions,
    vault: Vault,
    asana: AsanaClient,
    credential_id: CredentialId,
    token: SecretStr,
    cause: Cause,
) -> Credential:
    """Keep another token in a credential; runs that waited for it go on. Raises `ProblemError`."""
    async with sessions() as session:
        await credential_by_id(session, credential_id)
    user = await _owner(asana, token)
    async with sessions.begin() as session:
        await session.execute(LOCK_LANES, {"credential": credential_id})
        # Locked, for a worker may be about to call the old token invalid: only over what is then in the row
        # does the new state count as a change.
        credential = await session.get_one(Credential, credential_id, with_for_update=NO_KEY_UPDATE)
        _set_token(credential, vault, token, user)
        await session.flush()
        await session.execute(WAKE_LANES, {"credential": credential_id})
        await notify(session, CREDENTIALS, credential_id)
        await notify(session, LANES, "")
        await session.refresh(credential)
        await audit(
            session,
            EventType.CREDENTIAL_REGISTERED,
            cause,
            credential=credential_id,
            data=_public(user),
        )
    return credential


async def credential_by_id(session: AsyncSession, credential_id: CredentialId) -> Credential:
    """Raises `ProblemError` `not-found`."""
    credential = await session.get(Credential, credential_id)
    if credential is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no credential {credential_id}.")
    return credential


async def all_credentials(session: AsyncSession) -> Sequence[Credential]:
    """In order of registration."""
    return (await session.scalars(select(Credential).order_by(Credential.id))).all()


async def note_limit(session: AsyncSession, credential: CredentialId, seconds: float) -> None:
    """Asana wants no call with the token for so long: whoever has it in hand is told."""
    until = func.clock_timestamp() + timedelta(seconds=seconds)
    await session.execute(
        update(Credential)
        .where(Credential.id == credential)
        .values(limited_until=func.greatest(Credential.limited_until, until))
    )
    await notify(session, CREDENTIALS, credential)


async def note_refusal(session: AsyncSession, credential: CredentialId, seen: datetime) -> bool:
    """Asana does not accept the token: unless it was replaced meanwhile, the credential is invalid."""
    marked = await session.execute(
        update(Credential)
        .where(
            Credential.id == credential,
            Credential.state == CredentialState.VALID,
            Credential.updated_at == seen,
        )
        .values(state=CredentialState.INVALID, invalid_since=func.now(), updated_at=func.now())
        .returning(Credential.id)
    )
    if marked.first() is None:
        return False
    await record(session, EventType.CREDENTIAL_INVALID, actor="asana", credential=credential)
    await notify(session, CREDENTIALS, credential)
    return True


async def check_keys(session: AsyncSession, vault: Vault) -> None:
    """Raises `VaultError` when there is a token, or a key that signs, which our keys do not decrypt."""
    for secret in await session.scalars(union_all(*map(select, encrypted_columns()))):
        if secret:
            vault.decrypt(secret)


async def rotate_keys(sessions: Sessions, settings: Settings, cause: Cause) -> int:
    """Encrypt all that is secret anew by the first of the keys; returns how many tokens.

    Keys that are kept in the data folder get a new one first. Safe beside running processes and to repeat.
    Raises `VaultError` when there is a token that no key decrypts: then nothing was changed.
    """
    async with sessions.begin() as session:
        # Whoever changes a token has done so before, or waits without holding its row.
        await session.execute(LOCK_SECRETS)
        kept = [
            (column, row, secret)
            for column in encrypted_columns()
            for row, secret in await session.execute(
                select(column.table.c.id, column).where(column.is_not(None)).order_by(column.table.c.id)
            )
        ]
        vault = open_vault(settings)
        opened = [vault.decrypt(secret) for _, _, secret in kept]
        renew_own_key(settings, [secret for _, _, secret in kept])
        for (column, row, _), secret in zip(kept, opened, strict=True):
            renewed = {column.name: vault.encrypt(secret)}
            await session.execute(update(column.table).where(column.table.c.id == row).values(renewed))
        tokens = sum(column.table is Credential.__table__ for column, _, _ in kept)
        await audit(session, EventType.SECRETS_ROTATED, cause, data={"credentials": tokens})
    return tokens


async def register_workspace(
    sessions: Sessions,
    vault: Vault,
    asana: AsanaClient,
    gid: str,
    credential_id: CredentialId,
    cause: Cause,
    retention_days: int | None = None,
) -> tuple[Workspace, bool]:
    """Let a credential open a workspace, whose files are kept for so long where their clients have no wish;
    tells whether it is new. Raises `ProblemError`."""
    async with sessions() as session:
        token = vault.decrypt((await credential_by_id(session, credential_id)).token)
    with _told(on_refusal=Code.WORKSPACE_REFUSED):
        found = await asana.workspace(token, gid)
    # Of two who register it at once, one enters it, and the other changes what is entered.
    entry = insert(Workspace).values(gid=gid, name=found.name, credential=credential_id)
    async with sessions.begin() as session:
        entered = await session.scalar(entry.on_conflict_do_nothing().returning(Workspace.gid))
        workspace = await session.get_one(Workspace, gid, with_for_update=NO_KEY_UPDATE)
        is_new = entered is not None or workspace.removed_at is not None
        workspace.name, workspace.credential = found.name, credential_id
        workspace.updated_at, workspace.removed_at = func.now(), None
        workspace.retention_days = retention_days
        await session.flush()
        await session.refresh(workspace)
        await audit(
            session,
            EventType.WORKSPACE_REGISTERED,
            cause,
            credential=credential_id,
            data={"workspace": gid, "new": is_new, "retention_days": retention_days},
        )
    return workspace, is_new


async def remove_workspace(session: AsyncSession, client: Client, gid: str, cause: Cause) -> None:
    """Accept nothing for it from now on; what is queued runs. Raises `ProblemError`."""
    workspace = await workspace_by_gid(session, client, gid)
    workspace.removed_at = func.now()
    await audit(session, EventType.WORKSPACE_REMOVED, cause, data={"workspace": gid})


async def workspaces_of(session: AsyncSession, client: Client) -> Sequence[Workspace]:
    """The registered workspaces that a client has a grant for."""
    return (await session.scalars(_granted(client).order_by(Workspace.gid))).all()


async def workspace_by_gid(session: AsyncSession, client: Client, gid: str) -> Workspace:
    """Raises `ProblemError` `not-found` where the client has no grant, too."""
    workspace = await session.scalar(_granted(client).where(Workspace.gid == gid))
    if workspace is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no workspace {gid} that you may see.")
    return workspace


def _granted(client: Client) -> Select[Workspace]:
    granted = true() if client.sees_all_workspaces else Workspace.gid.in_(client.workspaces)
    return select(Workspace).where(granted, Workspace.removed_at.is_(None))


async def _owner(asana: AsanaClient, token: SecretStr) -> User:
    with _told(on_refusal=Code.CREDENTIAL_REFUSED):
        return await asana.me(token)


@contextmanager
def _told(*, on_refusal: Code) -> Iterator[None]:
    """Tell what Asana answers to a check as a problem: refused, or only not answered now."""
    try:
        yield
    except NotAuthorized as error:
        raise ProblemError(Code.CREDENTIAL_REFUSED, f"Asana answered: {error}") from None
    except (Forbidden, NotFound, PlanRequired, Refused) as error:
        raise ProblemError(on_refusal, f"Asana answered: {error}") from None
    except RateLimited as error:
        after = math.ceil(error.retry_after)
        raise ProblemError(Code.UPSTREAM_UNAVAILABLE, str(error), retry_after=after) from None
    except AsanaError as error:
        raise ProblemError(Code.UPSTREAM_UNAVAILABLE, str(error), retry_after=30) from None


def _public(user: User) -> dict[str, str]:
    return {"asana_user": user.gid, "asana_user_name": user.name}


def _set_token(credential: Credential, vault: Vault, token: SecretStr, user: User) -> None:
    credential.token = vault.encrypt(token)
    credential.state, credential.invalid_since = CredentialState.VALID, None
    credential.asana_user, credential.asana_user_name = user.gid, user.name
    credential.updated_at = func.now()
