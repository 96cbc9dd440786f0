"""Schedules: exports that are asked for by the clock, and up to which moment their data reach."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.access.models import Kind
from app.database.base import Base, Json, one_of
from app.ids import ClientId, ExportId, ScheduleId


class CatchUp(StrEnum):
    """What becomes of slots that were missed while no worker lived: `skip` passes over all of them, `latest`
    makes up for the newest, and tries again where the queue is full or a quota is used up.
    """

    SKIP = "skip"
    LATEST = "latest"


class SkipReason(StrEnum):
    """Why a slot was passed over.

    `missed`: no worker was there in time, or a newer slot was due as well. `paused` and `changed`: it came
    due while the schedule was paused, or before it was changed. `still_running`: the export of an earlier
    slot had not ended. `client_revoked`, `grant_missing`, `workspace_removed`: its client may not export
    there any more. `quota_exceeded`, `queue_full`, `lane_draining`: as for everybody. `request_refused`: the
    request is no longer valid.
    """

    MISSED = "missed"
    PAUSED = "paused"
    CHANGED = "changed"
    STILL_RUNNING = "still_running"
    CLIENT_REVOKED = "client_revoked"
    GRANT_MISSING = "grant_missing"
    WORKSPACE_REMOVED = "workspace_removed"
    QUOTA_EXCEEDED = "quota_exceeded"
    QUEUE_FULL = "queue_full"
    LANE_DRAINING = "lane_draining"
    REQUEST_REFUSED = "request_refused"


def actor_of(schedule: ScheduleId) -> str:
    """What the event log calls a schedule."""
    return f"schedule:{schedule}"


class Schedule(Base):
    """What a client wants exported, and when. A removed one is kept: exports and events name it.

    `next_slot` is the first slot that has neither been fired nor skipped, and `fires_at` its time with
    jitter; or if that slot is `put_off`, for which reason is told, when it is tried again. `export` is the
    request as its client gave it. `skips` counts slots skipped in a row.
    """

    __tablename__ = "schedules"

    id: Mapped[ScheduleId] = mapped_column(primary_key=True)
    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id"))
    name: Mapped[str]
    cron: Mapped[str]
    timezone: Mapped[str]
    jitter: Mapped[int]
    catch_up: Mapped[CatchUp] = mapped_column(one_of(CatchUp, "catch_up"))
    kind: Mapped[Kind] = mapped_column(one_of(Kind, "kind"))
    workspace: Mapped[str] = mapped_column(ForeignKey("workspaces.gid"))
    export: Mapped[Json]
    next_slot: Mapped[datetime]
    fires_at: Mapped[datetime]
    put_off: Mapped[SkipReason | None] = mapped_column(one_of(SkipReason, "put_off"))
    last_export: Mapped[ExportId | None]
    skips: Mapped[int] = mapped_column(server_default=text("0"))
    skip_reason: Mapped[SkipReason | None] = mapped_column(one_of(SkipReason, "skip_reason"))
    skipping_since: Mapped[datetime | None]
    skipped_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    removed_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        CheckConstraint("fires_at >= next_slot", "jitter_delays"),
        Index(
            "schedules_due_idx",
            "fires_at",
            postgresql_where=text("paused_at IS NULL AND removed_at IS NULL"),
        ),
        Index(
            "schedules_name_idx",
            "client",
            "name",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
    )

    @property
    def actor(self) -> str:
        """What the event log calls it."""
        return actor_of(self.id)


class Watermark(Base):
    """Up to which moment the succeeded exports of a schedule have data; None before the first.

    Only exports made from `since` on count: those before were asked for from another moment. It is a row of
    its own, for exports that end must not wait for one that is being fired.
    """

    __tablename__ = "watermarks"

    schedule: Mapped[ScheduleId] = mapped_column(ForeignKey("schedules.id"), primary_key=True)
    moment: Mapped[datetime | None]
    since: Mapped[datetime]
