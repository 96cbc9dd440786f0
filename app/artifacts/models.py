"""The file of a finished run, kept in our own store."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, func
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt, Json, one_of
from app.ids import ArtifactId, RunId

MEDIA_TYPE = "application/gzip"
LINES_MEDIA_TYPE = "application/x-ndjson"


class ArtifactState(StrEnum):
    """Whether a file can be had: `available`, or `expiring` within a day; `expired` by its retention, or
    `deleted` by somebody.
    """

    AVAILABLE = "available"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    DELETED = "deleted"


class Artifact(Base):
    """What was stored and what was verified of it; `key` names it in the store.

    `key_paths` are by resource type, null for a type that has too many; `receipt` is there once somebody has
    asked for it. What is null for the whole artifact was not looked at yet when the file was archived.
    """

    __tablename__ = "artifacts"

    id: Mapped[ArtifactId] = mapped_column(primary_key=True)
    run: Mapped[RunId] = mapped_column(ForeignKey("runs.id"), unique=True)
    state: Mapped[ArtifactState] = mapped_column(one_of(ArtifactState, "state"))
    key: Mapped[str] = mapped_column(unique=True)
    location: Mapped[str]
    media_type: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[BigInt]
    uncompressed_bytes: Mapped[BigInt]
    lines: Mapped[BigInt]
    by_type: Mapped[Json]
    duplicate_gids: Mapped[BigInt | None]
    # Long, and wanted by few who look at an artifact.
    key_paths: Mapped[Json | None] = mapped_column(deferred=True)
    receipt: Mapped[str | None] = mapped_column(deferred=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]

    def state_at(self, now: datetime) -> ArtifactState:
        """The state, where expiry has not yet been noted too."""
        over = self.state in {ArtifactState.AVAILABLE, ArtifactState.EXPIRING} and now >= self.expires_at
        return ArtifactState.EXPIRED if over else self.state
