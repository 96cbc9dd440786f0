"""Who is told of events over HTTP, and how far each telling has come."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt, Encrypted, Json, one_of
from app.ids import ClientId, EndpointId, EventId


class DisabledBecause(StrEnum):
    """Why an endpoint is sent nothing.

    `asked`: somebody has said so. `gone`: its receiver answered 410. `failing`: its receiver took nothing for
    three days.
    """

    ASKED = "asked"
    GONE = "gone"
    FAILING = "failing"


class DeliveryState(StrEnum):
    """How far a delivery has come.

    `pending`: it will be tried, or tried again. `delivered`: the receiver has accepted it. `failed`: it was
    given up; a replay begins it anew.
    """

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookEndpoint(Base):
    """Where a client is told of events, and of which; empty lists stand for all.

    The secret before the present one is good until `previous_until`. `failing` counts the deliveries that
    have failed since one has succeeded, `failing_since` is when the first of them did, and from `probe_at` on
    one that waits for them is sent to look. Until `not_before`, as its receiver has asked, nothing is sent.
    """

    __tablename__ = "webhook_endpoints"

    id: Mapped[EndpointId] = mapped_column(primary_key=True)
    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id"), index=True)
    url: Mapped[str]
    description: Mapped[str]
    types: Mapped[list[str]]
    workspaces: Mapped[list[str]]
    secret: Mapped[bytes] = mapped_column(Encrypted)
    previous_secret: Mapped[bytes | None] = mapped_column(Encrypted)
    previous_until: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_because: Mapped[DisabledBecause | None] = mapped_column(
        one_of(DisabledBecause, "disabled_because")
    )
    failing: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None]
    probe_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())

    __table_args__ = (
        CheckConstraint("(disabled_at IS NULL) = (disabled_because IS NULL)", "disabled"),
        CheckConstraint("(previous_secret IS NULL) = (previous_until IS NULL)", "previous"),
    )

    @property
    def facts(self) -> Json:
        """What every event about it says."""
        return {"endpoint": self.id, "client": self.client}


class WebhookDelivery(Base):
    """One event on its way to one endpoint.

    `ticket` rises with each holding, so that a try of the past is told from the one of now. `attempts` are
    the last tries; `tries`, `failing_since` and `failed_at` tell of those since the beginning or a replay.
    """

    __tablename__ = "webhook_deliveries"

    endpoint: Mapped[EndpointId] = mapped_column(
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    event: Mapped[EventId] = mapped_column(
        ForeignKey("events.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    state: Mapped[DeliveryState] = mapped_column(one_of(DeliveryState, "state"), server_default="pending")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ticket: Mapped[BigInt] = mapped_column(server_default=text("0"))
    tries: Mapped[int] = mapped_column(server_default=text("0"))
    failing_since: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    attempts: Mapped[list[Json]] = mapped_column(server_default=text("'[]'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("(finished_at IS NOT NULL) = (state <> 'pending')", "finished"),
        Index(
            "webhook_deliveries_pending_idx",
            "endpoint",
            text("tries DESC"),
            "event",
            postgresql_where=text("state = 'pending'"),
        ),
        Index("webhook_deliveries_finished_idx", "finished_at", postgresql_where=text("state <> 'pending'")),
    )
