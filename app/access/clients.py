"""Clients and their API keys."""

import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256

from sqlalchemy import func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import ALL_WORKSPACES, Client, Grant, Kind, Priority, Scope
from app.events.log import EventType, record
from app.ids import ClientId, new_client_id
from app.problems import Code, ProblemError

PREFIX = "aex"


async def create_client(
    session: AsyncSession,
    name: str,
    scopes: Sequence[Scope],
    *,
    workspaces: Sequence[str] = (ALL_WORKSPACES,),
    kinds: Sequence[Kind] = tuple(Kind),
    highest_priority: Priority = Priority.URGENT,
    actor: str,
) -> tuple[Client, str]:
    """Enter a client with one grant for each workspace; returns it and its key, never seen again.

    Raises `ProblemError` `conflict` when there is a client of that name.
    """
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
    try:
        await session.flush()
    except IntegrityError:
        raise ProblemError(Code.CONFLICT, f"There is a client named {name!r} already.") from None
    await record(session, EventType.CLIENT_CREATED, actor=actor, data={"client": client_id, "name": name})
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
