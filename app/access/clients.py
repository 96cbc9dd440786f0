"""Clients and their API keys."""

import hmac
import secrets
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import ALL_WORKSPACES, Client, Grant, Kind, Priority, Scope
from app.ids import ClientId, new_client_id

PREFIX = "aex"


async def create_client(
    session: AsyncSession,
    name: str,
    scopes: list[Scope],
    *,
    workspaces: tuple[str, ...] = (ALL_WORKSPACES,),
    kinds: tuple[Kind, ...] = tuple(Kind),
    highest_priority: Priority = Priority.URGENT,
) -> tuple[Client, str]:
    """Enter a client with one grant for each workspace; returns it and its key, never seen again."""
    client_id = new_client_id()
    secret = secrets.token_urlsafe(32)
    client = Client(
        id=client_id,
        name=name,
        key_hash=_hash(secret),
        scopes=[str(scope) for scope in scopes],
        grants=[
            Grant(workspace=gid, kinds=[str(kind) for kind in kinds], highest_priority=highest_priority)
            for gid in workspaces
        ],
    )
    session.add(client)
    await session.flush()
    return client, f"{PREFIX}_{client_id.removeprefix('cli_')}_{secret}"


async def client_by_key(session: AsyncSession, key: str) -> Client | None:
    """The client whose key this is, unless it has been revoked."""
    prefix, _, rest = key.partition("_")
    client_id, _, secret = rest.partition("_")
    client = await session.get(Client, ClientId(f"cli_{client_id}"))
    # The comparison takes the same time whether the client exists or not, and wherever the hashes differ.
    fits = hmac.compare_digest(client.key_hash if client else b"", _hash(secret))
    return client if client and fits and prefix == PREFIX and client.revoked_at is None else None


async def note_use(session: AsyncSession, client: Client) -> None:
    """Keep the time of last use, to the minute: a write at every request would be too many."""
    await session.execute(
        update(Client)
        .where(
            Client.id == client.id,
            or_(Client.last_used_at.is_(None), Client.last_used_at < func.now() - timedelta(minutes=1)),
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
