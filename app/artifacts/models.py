"""The file of a finished run, kept in our own store."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, and_, func, or_, text
from sqlalchemy.orm import Mapped, mapped_column

from app.artifacts.outputs import Format
from app.database.base import Base, BigInt, Json, one_of
from app.ids import ArtifactId, OutputId, RunId, WorkerId

MEDIA_TYPE = "application/gzip"
LINES_MEDIA_TYPE = "application/x-ndjson"
DUPLICATES = ".duplicates.gz"


class ArtifactState(StrEnum):
    """Whether a file can be had: `available`, or `expiring` within days; `expired` by its retention, or
    `deleted` by somebody.
    """

    AVAILABLE = "available"
    EXPIRING = "expiring"
    EXPIRED = "expired"
    DELETED = "deleted"


KEPT = frozenset({ArtifactState.AVAILABLE, ArtifactState.EXPIRING})
ENDED = frozenset(ArtifactState) - KEPT


class Artifact(Base):
    """What was stored and what was verified of it; `key` names it in the store.

    `key_paths` are by resource type, null for a type that has too many; `receipt` is there once somebody has
    asked for it. What is null for the whole artifact was not looked at yet when the file was archived.
    While `held_at` is set, it neither expires nor may be deleted. `missing_since` tells that a file of it is
    not in the store. Once it has ended its files are removed, after a while, at `removed_at`.
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
    held_at: Mapped[datetime | None]
    missing_since: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("held_at IS NULL OR state = 'available'", "held"),
        CheckConstraint("(ended_at IS NOT NULL) = (state IN ('expired', 'deleted'))", "ended"),
        CheckConstraint("removed_at IS NULL OR ended_at IS NOT NULL", "removed"),
        Index(
            "artifacts_expires_at_idx",
            "expires_at",
            postgresql_where=text("state IN ('available', 'expiring') AND held_at IS NULL"),
        ),
        Index("artifacts_removal_idx", "ended_at", postgresql_where=text("removed_at IS NULL")),
        Index("artifacts_missing_idx", "id", postgresql_where=text("missing_since IS NOT NULL")),
    )

    @property
    def duplicates_key(self) -> str:
        """Names the list of lines that repeat an object, which is there if there are such lines."""
        return f"{self.key}{DUPLICATES}"

    @property
    def content_path(self) -> str:
        """Where callers download it."""
        return f"/v1/artifacts/{self.id}/content"

    def state_at(self, now: datetime) -> ArtifactState:
        """The state, where expiry has not yet been noted too."""
        over = self.state in KEPT and self.held_at is None and now >= self.expires_at
        return ArtifactState.EXPIRED if over else self.state


# As `state_at` has it, by the clock of the database.
IS_KEPT = and_(Artifact.state.in_(KEPT), or_(Artifact.held_at.is_not(None), Artifact.expires_at > func.now()))


class ConversionState(StrEnum):
    """Whether the files of a format are there: `pending` until a worker has made them, then `ready`, or
    `failed` for good.
    """

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class Errand:
    """What a worker is asked to do with an artifact; `state` is `pending` until it is done or has failed.

    While pending, `worker` and `fence` are to it what holder and fence are to a lane; `failures` counts the
    workers that vanished while they had it, and the tries that crashed; `not_before` holds it back.
    """

    worker: Mapped[WorkerId | None] = mapped_column(ForeignKey("workers.id", ondelete="SET NULL"))
    fence: Mapped[BigInt] = mapped_column(server_default=text("0"))
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    error: Mapped[Json | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


def asked_of_workers(table: str) -> tuple[CheckConstraint | Index, ...]:
    """How the database holds the errands of a table to that, and finds those that are to be run."""
    return (
        CheckConstraint("(finished_at IS NOT NULL) = (state <> 'pending')", "finished"),
        CheckConstraint("(error IS NOT NULL) = (state = 'failed')", "failed"),
        Index(f"{table}_pending_idx", "requested_at", postgresql_where=text("state = 'pending'")),
        Index(f"{table}_worker_idx", "worker", postgresql_where=text("worker IS NOT NULL")),
    )


class Conversion(Errand, Base):
    """An artifact made into a format on request."""

    __tablename__ = "conversions"

    artifact: Mapped[ArtifactId] = mapped_column(
        ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    format: Mapped[Format] = mapped_column(one_of(Format, "format"), primary_key=True)
    state: Mapped[ConversionState] = mapped_column(one_of(ConversionState, "state"))

    __table_args__ = asked_of_workers("conversions")


class OutputFile(Base):
    """One file of a conversion, with all objects of a resource type; `key` names it in the store."""

    __tablename__ = "output_files"

    id: Mapped[OutputId] = mapped_column(primary_key=True)
    artifact: Mapped[ArtifactId]
    format: Mapped[Format] = mapped_column(one_of(Format, "format"))
    resource_type: Mapped[str]
    key: Mapped[str] = mapped_column(unique=True)
    media_type: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[BigInt]
    rows: Mapped[BigInt]
    columns: Mapped[list[Json]]

    __table_args__ = (
        ForeignKeyConstraint(
            ["artifact", "format"], ["conversions.artifact", "conversions.format"], ondelete="CASCADE"
        ),
        Index("output_files_artifact_idx", "artifact", "format"),
    )

    @property
    def content_path(self) -> str:
        """Where callers download it."""
        return f"/v1/artifacts/{self.artifact}/outputs/{self.format}/{self.id}/content"


class RefetchState(StrEnum):
    """What has become of fetching a file from Asana again: `pending` until a worker has it, then `done`, or
    `failed` for good.
    """

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Refetch(Errand, Base):
    """That the file of an artifact is to be fetched from Asana again, last."""

    __tablename__ = "refetches"

    artifact: Mapped[ArtifactId] = mapped_column(
        ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    state: Mapped[RefetchState] = mapped_column(one_of(RefetchState, "state"))

    __table_args__ = asked_of_workers("refetches")
