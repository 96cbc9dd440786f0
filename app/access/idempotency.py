"""Idempotency keys: the same request sent twice makes what it makes once."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256
from typing import TypeVar, cast

import rfc8785
from sqlalchemy import ForeignKey, func, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Json
from app.ids import ClientId
from app.problems import Code, ProblemError

TWIN_WAITS_SECONDS = 2
LOCK_NOT_AVAILABLE = "55P03"

Id = TypeVar("Id", bound=str)

# One transaction at a time for a key; the lock goes with the transaction.
PATIENCE = text(f"SET LOCAL lock_timeout = '{TWIN_WAITS_SECONDS}s'")
TAKE_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
IMPATIENCE_OVER = text("SET LOCAL lock_timeout = 0")


class IdempotencyKey(Base):
    """A client's key on a route, the body it came with and the id of what it made."""

    __tablename__ = "idempotency_keys"

    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    # Once it was an export always, and processes of older versions go on to write it by that name.
    made: Mapped[str] = mapped_column("export")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


def fingerprint(body: Json) -> str:
    """SHA-256 of the canonical form of a body (RFC 8785): alike for bodies that mean the same."""
    return sha256(rfc8785.dumps(body)).hexdigest()


async def once(
    session: AsyncSession,
    client: ClientId,
    route: str,
    key: str | None,
    body: Json,
    make: Callable[[], Awaitable[Id]],
) -> tuple[Id, bool]:
    """Make it in the caller's transaction, unless it was made with this key; returns its id, and whether it
    was there. Without a key it is made each time.

    A twin in progress is waited for a moment. Raises `ProblemError` `idempotency-in-progress` when that was
    too short, `idempotency-key-reused` when the key came with another body. A request that fails leaves no
    trace of its key.
    """
    if key is None:
        return await make(), False
    await _take_turn(session, f"{client} {route} {key}")
    known = await session.get(IdempotencyKey, (client, route, key))
    digest = fingerprint(body)
    if known is None:
        made = await make()
        session.add(IdempotencyKey(client=client, route=route, key=key, fingerprint=digest, made=made))
        await session.flush()
        return made, False
    if known.fingerprint != digest:
        detail = f"The key came with another body when it made {known.made}."
        raise ProblemError(Code.IDEMPOTENCY_KEY_REUSED, detail)
    return cast("Id", known.made), True


async def _take_turn(session: AsyncSession, what: str) -> None:
    await session.execute(PATIENCE)
    try:
        await session.execute(TAKE_TURN, {"what": what})
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise ProblemError(
                Code.IDEMPOTENCY_IN_PROGRESS, "A request with this key has not ended yet.", retry_after=1
            ) from None
        raise
    await session.execute(IMPATIENCE_OVER)
