"""An export is one caller's request and its outcome; a run is the work at Asana that exports share."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, SmallInteger, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.access.models import Kind, Priority
from app.database.base import Base, BigInt, Json, one_of
from app.ids import ClientId, CredentialId, ExportId, LaneKey, RunId, ScheduleId, WorkerId
from app.lanes.models import WaitReason
from app.schedules.models import Schedule


class Status(StrEnum):
    """Where an export stands.

    `queued`: waiting for its turn. `running`: holding the workspace's slot at Asana. `archiving`: Asana is
    done, and the file is fetched and verified. `canceling`: canceled, but its job still holds the slot. The
    end is one of `succeeded`, `failed` and `canceled`.
    """

    QUEUED = "queued"
    RUNNING = "running"
    ARCHIVING = "archiving"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Phase(StrEnum):
    """What a running run is about: `submitting` it to Asana; `submit_unknown`, for Asana may or may not have
    started it; `polling` its job until that has ended.
    """

    SUBMITTING = "submitting"
    SUBMIT_UNKNOWN = "submit_unknown"
    POLLING = "polling"


FINISHED = "(finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'canceled'))"


# By what past runs are looked up to judge how long one will take.
PAST_RUNS = {
    "past_of_lane": ("lane",),
    "past_of_shape": ("workspace", "kind", "shape"),
    "past_of_kind_here": ("workspace", "kind"),
    "past_of_kind": ("kind",),
}


class Run(Base):
    """One export job at Asana, over all its attempts.

    `fingerprint` is alike for runs that exports may share, `shape` for runs that may take alike long. `rank`,
    `due`, `turn` and `queued_at` are its place in the queue and are kept when it goes back there;
    `not_before` holds back the run alone, not its lane. While archiving, `archiver` and `archive_fence` are
    to the run what holder and fence are to the lane. `lost_archivers` are workers that vanished while they
    had its file in hand. `traceparent` is where the request that made it stands in its trace.
    """

    __tablename__ = "runs"

    id: Mapped[RunId] = mapped_column(primary_key=True)
    lane: Mapped[LaneKey] = mapped_column(ForeignKey("lanes.key"))
    workspace: Mapped[str] = mapped_column(ForeignKey("workspaces.gid"))
    credential: Mapped[CredentialId] = mapped_column(ForeignKey("credentials.id"))
    kind: Mapped[Kind] = mapped_column(one_of(Kind, "kind"))
    request: Mapped[Json]
    fingerprint: Mapped[str]
    shape: Mapped[str]
    status: Mapped[Status] = mapped_column(one_of(Status, "status"))
    phase: Mapped[Phase | None] = mapped_column(one_of(Phase, "phase"))
    wait_reason: Mapped[WaitReason | None] = mapped_column(one_of(WaitReason, "wait_reason"))
    rank: Mapped[int] = mapped_column(SmallInteger)
    promotes_at: Mapped[datetime | None]
    due: Mapped[float] = mapped_column(Double, server_default=text("'Infinity'"))
    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id"))
    turn: Mapped[BigInt] = mapped_column(server_default=text("0"))
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    attempt: Mapped[int] = mapped_column(server_default=text("1"))
    asana_job: Mapped[str | None]
    asana_export: Mapped[str | None]
    data_from: Mapped[datetime | None]
    data_to: Mapped[datetime | None]
    archiver: Mapped[WorkerId | None] = mapped_column(ForeignKey("workers.id", ondelete="SET NULL"))
    archive_fence: Mapped[BigInt] = mapped_column(server_default=text("0"))
    lost_archivers: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    traceparent: Mapped[str | None]
    error: Mapped[Json | None]
    warnings: Mapped[list[Json]] = mapped_column(server_default=text("'[]'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    slot_freed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        # Two exports of a workspace at Asana at once are impossible in the database itself.
        Index(
            "runs_one_live_per_lane_idx",
            "lane",
            unique=True,
            postgresql_where=text("status IN ('running', 'canceling')"),
        ),
        CheckConstraint("(phase IS NOT NULL) = (status IN ('running', 'canceling'))", "phase_in_slot"),
        CheckConstraint(FINISHED, "finished"),
        Index(
            "runs_queue_idx",
            "lane",
            "rank",
            "due",
            "turn",
            "queued_at",
            "id",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("runs_turn_idx", "lane", "client", "turn", postgresql_where=text("status = 'queued'")),
        Index(
            "runs_promotion_idx",
            "promotes_at",
            postgresql_where=text("status = 'queued' AND promotes_at IS NOT NULL"),
        ),
        Index("runs_sharing_idx", "fingerprint", "id"),
        Index("runs_credential_idx", "credential", "lane", postgresql_where=text("status = 'queued'")),
        Index("runs_archiving_idx", "id", postgresql_where=text("status = 'archiving'")),
        Index("runs_failed_idx", "finished_at", postgresql_where=text("status = 'failed'")),
        Index("runs_archiver_idx", "archiver", postgresql_where=text("archiver IS NOT NULL")),
        *(
            Index(
                f"runs_{name}_idx", *columns, "slot_freed_at", postgresql_where=text("status = 'succeeded'")
            )
            for name, columns in PAST_RUNS.items()
        ),
    )


class Export(Base):
    """One caller's request. `version` rises with every change of its row.

    Its latency is kept in microseconds by cause, as far as it had come at `phase_since`. `at_risk_since` is
    when it was told that it will probably miss its `deliver_by`.
    """

    __tablename__ = "exports"

    id: Mapped[ExportId] = mapped_column(primary_key=True)
    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id"))
    run: Mapped[RunId] = mapped_column(ForeignKey("runs.id"), index=True)
    kind: Mapped[Kind] = mapped_column(one_of(Kind, "kind"))
    workspace: Mapped[str] = mapped_column(ForeignKey("workspaces.gid"))
    lane: Mapped[LaneKey] = mapped_column(ForeignKey("lanes.key"))
    status: Mapped[Status] = mapped_column(one_of(Status, "status"))
    priority: Mapped[Priority] = mapped_column(one_of(Priority, "priority"))
    request: Mapped[Json]
    labels: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    deliver_by: Mapped[datetime | None]
    queue_until: Mapped[datetime | None]
    retry_of: Mapped[ExportId | None] = mapped_column(ForeignKey("exports.id"))
    schedule: Mapped[ScheduleId | None] = mapped_column(ForeignKey(Schedule.id))
    slot: Mapped[datetime | None]
    at_risk_since: Mapped[datetime | None]
    error: Mapped[Json | None]
    version: Mapped[BigInt] = mapped_column(server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    phase_since: Mapped[datetime] = mapped_column(server_default=func.now())
    external_us: Mapped[BigInt] = mapped_column(server_default=text("0"))
    backoff_us: Mapped[BigInt] = mapped_column(server_default=text("0"))
    paused_us: Mapped[BigInt] = mapped_column(server_default=text("0"))
    run_us: Mapped[BigInt] = mapped_column(server_default=text("0"))
    archive_us: Mapped[BigInt] = mapped_column(server_default=text("0"))

    __table_args__ = (
        CheckConstraint(FINISHED, "finished"),
        CheckConstraint("(schedule IS NULL) = (slot IS NULL)", "slot_of_schedule"),
        Index(
            "exports_queue_until_idx",
            "queue_until",
            postgresql_where=text("status = 'queued' AND queue_until IS NOT NULL"),
        ),
        Index("exports_waiting_idx", "client", "lane", postgresql_where=text("status = 'queued'")),
        Index("exports_client_idx", "client", "id"),
        Index("exports_workspace_idx", "workspace", "id"),
        Index("exports_labels_idx", "labels", postgresql_using="gin"),
        # A slot fires once, whoever looks at it.
        Index(
            "exports_schedule_slot_idx",
            "schedule",
            "slot",
            unique=True,
            postgresql_where=text("schedule IS NOT NULL"),
        ),
        # To find the one of a parent that is in progress.
        Index(
            "exports_parent_idx",
            "client",
            text("(request ->> 'parent')"),
            postgresql_where=text("kind = 'graph' AND finished_at IS NULL"),
        ),
        Index("exports_schedule_idx", "schedule", "id", postgresql_where=text("schedule IS NOT NULL")),
        Index(
            "exports_watched_idx",
            "lane",
            "deliver_by",
            postgresql_where=text("deliver_by IS NOT NULL AND at_risk_since IS NULL AND finished_at IS NULL"),
        ),
    )
