"""Clients and their API keys."""

import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import ALL_WORKSPACES, Client, Grant, Kind, Priority, Scope
from app.events.log import EventType, record
from app.ids import ClientId, new_client_id
from app.problems import Code, ProblemError

PREFIX = "aex"
LAST_USE_TO = timedelta(minutes=1)


class GrantSpec(BaseModel):
    """Where a client may export, what, and how urgently."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: str = Field(
        ALL_WORKSPACES, pattern=r"^(\*|[0-9]{1,20})$", description="A workspace's gid, or `*` for all."
    )
    kinds: tuple[Kind, ...] = Field(tuple(Kind), min_length=1)
    highest_priority: Priority = Field(Priority.HIGH, description="The most urgent class it may ask for.")


class ClientSpec(BaseModel):
    """What an administrator decides about a client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[\w.-][\w. -]{0,98}[\w.-]$|^[\w.-]$",
        description="1 to 100 letters, digits, dots, dashes and inner spaces.",
        examples=["bi"],
    )
    scopes: tuple[Scope, ...] = Field(min_length=1)
    grants: tuple[GrantSpec, ...] = (GrantSpec(),)

    @field_validator("grants")
    @classmethod
    def _one_for_each_workspace(cls, grants: tuple[GrantSpec, ...]) -> tuple[GrantSpec, ...]:
        if len({grant.workspace for grant in grants}) < len(grants):
            raise PydanticCustomError("grants", "must name each workspace once")
        return grants


async def create_client(session: AsyncSession, spec: ClientSpec, *, actor: str) -> tuple[Client, str]:
    """Enter a client; returns it and its key, never seen again.

    Raises `ProblemError` `conflict` when there is a client of that name.
    """
    client_id = new_client_id()
    secret = secrets.token_urlsafe(32)
    client = Client(
        id=client_id,
        name=spec.name,
        key_hash=_hash(secret),
        scopes=[str(scope) for scope in spec.scopes],
        grants=[
            Grant(
                workspace=grant.workspace,
                kinds=[str(kind) for kind in grant.kinds],
                highest_priority=grant.highest_priority,
            )
            for grant in spec.grants
        ],
    )
    if await client_by_name(session, spec.name):
        raise ProblemError(Code.CONFLICT, f"There is a client named {spec.name!r} already.")
    session.add(client)
    await session.flush()
    await record(
        session, EventType.CLIENT_CREATED, actor=actor, data={"client": client_id, "name": spec.name}
    )
    return client, f"{PREFIX}_{client_id.removeprefix('cli_')}_{secret}"


async def revoke_client(session: AsyncSession, client: Client, *, actor: str) -> None:
    """Let its key open nothing from now on; what it has asked for goes on."""
    if client.revoked_at is None:
        client.revoked_at = func.now()
        await session.flush()
        facts = {"client": client.id, "name": client.name}
        await record(session, EventType.CLIENT_REVOKED, actor=actor, data=facts)


async def client_by_name(session: AsyncSession, name: str) -> Client | None:
    """The client of that name, revoked or not."""
    return await session.scalar(select(Client).where(Client.name == name))


async def all_clients(session: AsyncSession) -> Sequence[Client]:
    """In order of making."""
    return (await session.scalars(select(Client).order_by(Client.id))).all()


async def client_by_key(session: AsyncSession, key: str) -> Client | None:
    """The client whose key this is, unless it has been revoked."""
    prefix, _, rest = key.partition("_")
    client_id, _, secret = rest.partition("_")
    client = await session.get(Client, ClientId(f"cli_{client_id}"))
    # The comparison takes the same time whether the client exists or not, and wherever the hashes differ.
    fits = hmac.compare_digest(client.key_hash if client else bytes(32), _hash(secret))
    return client if client and fits and prefix == PREFIX and client.revoked_at is None else None


async def note_use(session: AsyncSession, client: Client) -> None:
    """Keep the time of last use, to the minute: a write at every request would be too many."""
    if client.last_used_at and datetime.now(UTC) - client.last_used_at < LAST_USE_TO:
        return
    await session.execute(
        update(Client)
        .where(
            Client.id == client.id,
            or_(Client.last_used_at.is_(None), Client.last_used_at < func.now() - LAST_USE_TO),
        )
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def any_client(session: AsyncSession) -> bool:
    """Whether there is a client at all."""
    return await session.scalar(select(Client.id).limit(1)) is not None


def _hash(secret: str) -> bytes:
    # The secret holds 256 random bits, so that a slow hash would add nothing.
    return sha256(secret.encode()).digest()
