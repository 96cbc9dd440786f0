"""Idempotency keys: the same request sent twice makes one export."""

from datetime import datetime
from hashlib import sha256

import rfc8785
from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, Json
from app.ids import ClientId, ExportId


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
