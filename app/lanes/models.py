"""A lane is a queue with one slot; a worker holds lanes for as long as its lease lasts."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ARRAY, BigInteger, ForeignKey, Identity, Index, false, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt, one_of
from app.ids import LaneKey, WorkerId


class WaitReason(StrEnum):
    """Why something is not moving.

    `behind_others`: others of the workspace go first. `upstream_slot_busy`: Asana refuses, as it does while
    somebody else exports the workspace. `rate_limited`: Asana asks for a pause. `credential_invalid`: the
    token has to be replaced. `lane_paused`: an administrator holds the queue. `backoff`: a pause before it
    is tried again. `storage_full`: there is no room for the file. `waiting_for_worker`: it is next, and the
    next worker that has time takes it.
    """

    BEHIND_OTHERS = "behind_others"
    UPSTREAM_SLOT_BUSY = "upstream_slot_busy"
    RATE_LIMITED = "rate_limited"
    CREDENTIAL_INVALID = "credential_invalid"
    LANE_PAUSED = "lane_paused"
    BACKOFF = "backoff"
    STORAGE_FULL = "storage_full"
    WAITING_FOR_WORKER = "waiting_for_worker"


class Worker(Base):
    """A process that serves lanes. It writes one row a beat, whatever it holds."""

    __tablename__ = "workers"

    id: Mapped[WorkerId] = mapped_column(primary_key=True)
    name: Mapped[str]
    lease_expires_at: Mapped[datetime]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LaneWait(Base):
    """A time during which a lane as a whole waited, and for what; written by a trigger on `lanes`.

    `blocked_at` is when that was told as `lane.blocked`, `unblocked_at` when its end was told.
    """

    __tablename__ = "lane_waits"

    id: Mapped[BigInt] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    lane: Mapped[LaneKey] = mapped_column(ForeignKey("lanes.key"))
    since: Mapped[datetime]
    reason: Mapped[WaitReason] = mapped_column(one_of(WaitReason, "reason"))
    until: Mapped[datetime | None]
    blocked_at: Mapped[datetime | None]
    unblocked_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "lane_waits_blocked_idx",
            "lane",
            postgresql_where=text("blocked_at IS NOT NULL AND unblocked_at IS NULL"),
        ),
        Index("lane_waits_open_idx", "lane", unique=True, postgresql_where=text("until IS NULL")),
        Index("lane_waits_past_idx", "lane", "until"),
    )


class Lane(Base):
    """The queue of a workspace and its slot.

    `fence` rises with each claim, so that a holder of the past is told from the one of now. `wait_reason` is
    set while the lane as a whole waits until `next_attempt_at`; `probes` counts refusals in a row. `turns`
    are, by class, the turns of the runs that were started last. A paused lane starts nothing, a draining one
    accepts nothing.
    """

    __tablename__ = "lanes"

    key: Mapped[LaneKey] = mapped_column(primary_key=True)
    workspace: Mapped[str] = mapped_column(ForeignKey("workspaces.gid"), index=True)
    has_work: Mapped[bool] = mapped_column(server_default=false())
    holder: Mapped[WorkerId | None] = mapped_column(ForeignKey("workers.id", ondelete="SET NULL"))
    fence: Mapped[BigInt] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    wait_reason: Mapped[WaitReason | None] = mapped_column(one_of(WaitReason, "wait_reason"))
    probes: Mapped[int] = mapped_column(server_default=text("0"))
    turns: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{0,0,0,0}'"))
    paused_at: Mapped[datetime | None]
    draining_at: Mapped[datetime | None]

    __table_args__ = (
        Index("lanes_free_idx", "next_attempt_at", postgresql_where=text("has_work AND holder IS NULL")),
        Index("lanes_holder_idx", "holder", postgresql_where=text("holder IS NOT NULL")),
    )
