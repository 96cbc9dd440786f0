"""Idempotency keys: the same request sent twice makes one export."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from hashlib import sha256

import rfc8785
from sqlalchemy import ForeignKey, func, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Json
from app.exports.models import Export
from app.ids import ClientId, ExportId
from app.problems import Code, ProblemError

TWIN_WAITS_SECONDS = 2
LOCK_NOT_AVAILABLE = "55P03"

# One transaction at a time for a key; the lock goes with the transaction.
PATIENCE = text(f"SET LOCAL lock_timeout = '{TWIN_WAITS_SECONDS}s'")
TAKE_TURN = text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
IMPATIENCE_OVER = text("SET LOCAL lock_timeout = 0")


class IdempotencyKey(Base):
    """A client's key on a route, the body it came with and the export it made."""

    __tablename__ = "idempotency_keys"

    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    export: Mapped[ExportId] = mapped_column(ForeignKey("exports.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


def fingerprint(body: Json) -> str:
    """SHA-256 of the canonical form of a body (RFC 8785): alike for bodies that mean the same."""
    return sha256(rfc8785.dumps(body)).hexdigest()


async def once(
    session: AsyncSession,
    client: ClientId,
    route: str,
    key: str,
    body: Json,
    make: Callable[[], Awaitable[Export]],
) -> tuple[ExportId, bool]:
    """Make the export in the caller's transaction, unless the key has made one; tells whether it had.

    A twin in progress is waited for a moment. Raises `ProblemError` `idempotency-in-progress` when that was
    too short, `idempotency-key-reused` when the key came with another body. A request that fails leaves no
    trace of its key.
    """
    await _take_turn(session, f"{client} {route} {key}")
    known = await session.get(IdempotencyKey, (client, route, key))
    digest = fingerprint(body)
    if known is None:
        export = await make()
        session.add(IdempotencyKey(client=client, route=route, key=key, fingerprint=digest, export=export.id))
        await session.flush()
        return export.id, False
    if known.fingerprint != digest:
        raise ProblemError(
            Code.IDEMPOTENCY_KEY_REUSED, f"The key came with another body when it made export {known.export}."
        )
    return known.export, True


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
