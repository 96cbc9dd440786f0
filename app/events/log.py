"""The event log: what happened, written in the transaction in which it happened, and never changed."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Required, TypedDict, Unpack

from sqlalchemy import BigInteger, Identity, Index, Text, func, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.database.base import Base, BigInt, Json
from app.events.outgoing import say
from app.ids import CredentialId, EventId, ExportId, LaneKey, RunId, new_event_id


class EventType(StrEnum):
    """What happened.

    To an export: `export.created`, `export.started` (Asana has taken it), `export.progressed` (another
    status, phase or attempt), `export.at_risk` (it will probably miss its `deliver_by`), and one of the ends
    `export.succeeded`, `export.failed`, `export.canceled`. `schema.changed`: its file has other keys than the
    last one of the same request.

    To a file: `artifact.conversion_requested`, `artifact.converted` and `artifact.conversion_failed`;
    `artifact.extended` (it is kept for longer), `artifact.expiring` soon, `artifact.expired`, and
    `artifact.deleted`, `artifact.held` or `artifact.released` by somebody; `artifact.missing` in the store,
    and `artifact.mended`; `artifact.refetch_requested`, `artifact.refetched`, `artifact.refetch_failed`.

    To a lane: `lane.blocked` (Asana has refused its exports for long) and `lane.unblocked`; `lane.paused`,
    `lane.draining` and `lane.resumed`, by an administrator.

    For administrators: `service.restored` (the database was put back to an earlier moment),
    `credential.registered`, `credential.invalid`, `secrets.rotated`,
    `workspace.registered`, `workspace.removed`, `client.created`, `client.changed`, `client.key_replaced`,
    `client.revoked` and `attention.acknowledged`.

    To a schedule: `schedule.created`, `schedule.changed`, `schedule.paused`, `schedule.resumed`,
    `schedule.removed`, and `schedule.skipped` (a slot has no export).

    To a webhook endpoint: `webhook.created`, `webhook.changed`, `webhook.secret_rotated`, `webhook.deleted`,
    `webhook.disabled` by its receiver, `webhook.replayed`, and `webhook.test`, which is sent to it alone.
    """

    EXPORT_CREATED = "export.created"
    EXPORT_STARTED = "export.started"
    EXPORT_PROGRESSED = "export.progressed"
    EXPORT_SUCCEEDED = "export.succeeded"
    EXPORT_FAILED = "export.failed"
    EXPORT_CANCELED = "export.canceled"
    EXPORT_AT_RISK = "export.at_risk"
    ARTIFACT_CONVERSION_REQUESTED = "artifact.conversion_requested"
    ARTIFACT_CONVERTED = "artifact.converted"
    ARTIFACT_CONVERSION_FAILED = "artifact.conversion_failed"
    ARTIFACT_EXTENDED = "artifact.extended"
    ARTIFACT_EXPIRING = "artifact.expiring"
    ARTIFACT_EXPIRED = "artifact.expired"
    ARTIFACT_DELETED = "artifact.deleted"
    ARTIFACT_HELD = "artifact.held"
    ARTIFACT_RELEASED = "artifact.released"
    ARTIFACT_MISSING = "artifact.missing"
    ARTIFACT_MENDED = "artifact.mended"
    ARTIFACT_REFETCH_REQUESTED = "artifact.refetch_requested"
    ARTIFACT_REFETCHED = "artifact.refetched"
    ARTIFACT_REFETCH_FAILED = "artifact.refetch_failed"
    SCHEMA_CHANGED = "schema.changed"
    LANE_BLOCKED = "lane.blocked"
    LANE_UNBLOCKED = "lane.unblocked"
    LANE_PAUSED = "lane.paused"
    LANE_DRAINING = "lane.draining"
    LANE_RESUMED = "lane.resumed"
    CREDENTIAL_REGISTERED = "credential.registered"
    CREDENTIAL_INVALID = "credential.invalid"
    SECRETS_ROTATED = "secrets.rotated"
    WORKSPACE_REGISTERED = "workspace.registered"
    WORKSPACE_REMOVED = "workspace.removed"
    CLIENT_CREATED = "client.created"
    CLIENT_CHANGED = "client.changed"
    CLIENT_KEY_REPLACED = "client.key_replaced"
    CLIENT_REVOKED = "client.revoked"
    SCHEDULE_CREATED = "schedule.created"
    SCHEDULE_CHANGED = "schedule.changed"
    SCHEDULE_PAUSED = "schedule.paused"
    SCHEDULE_RESUMED = "schedule.resumed"
    SCHEDULE_REMOVED = "schedule.removed"
    SCHEDULE_SKIPPED = "schedule.skipped"
    SERVICE_RESTORED = "service.restored"
    ATTENTION_ACKNOWLEDGED = "attention.acknowledged"
    WEBHOOK_CREATED = "webhook.created"
    WEBHOOK_CHANGED = "webhook.changed"
    WEBHOOK_SECRET_ROTATED = "webhook.secret_rotated"  # noqa: S105
    WEBHOOK_DISABLED = "webhook.disabled"
    WEBHOOK_DELETED = "webhook.deleted"
    WEBHOOK_REPLAYED = "webhook.replayed"
    WEBHOOK_TEST = "webhook.test"


@dataclass(frozen=True)
class Cause:
    """Who makes something happen, in which request, and what is noted to it."""

    actor: str
    request_id: str | None = None
    note: str | None = None


class Event(Base):
    """One thing that happened. `seq` is the order of writing, which is not always the order of commit.

    The last three are null until it is placed in the feed (`app/events/placing.py`): `position` is its place
    there, `audience` the client whose export it is about or, where it is about none, the workspace.
    """

    __tablename__ = "events"

    seq: Mapped[BigInt] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    id: Mapped[EventId] = mapped_column(unique=True)
    # Text without a constraint: workers of the next version may write types that this one does not know.
    type: Mapped[EventType] = mapped_column(Text)
    export: Mapped[ExportId | None]
    run: Mapped[RunId | None]
    lane: Mapped[LaneKey | None]
    credential: Mapped[CredentialId | None]
    actor: Mapped[str]
    request_id: Mapped[str | None]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    position: Mapped[BigInt | None]
    workspace: Mapped[str | None]
    audience: Mapped[str | None]

    __table_args__ = (
        Index("events_export_idx", "export", "seq", postgresql_where=text("export IS NOT NULL")),
        Index("events_unplaced_idx", "seq", postgresql_where=text("position IS NULL")),
        Index("events_position_idx", "position", unique=True, postgresql_where=text("position IS NOT NULL")),
        Index("events_audience_idx", "audience", "position", postgresql_where=text("audience IS NOT NULL")),
        Index(
            "events_workspace_idx", "workspace", "position", postgresql_where=text("workspace IS NOT NULL")
        ),
    )


NOTHING: Json = {
    "export": None,
    "run": None,
    "lane": None,
    "credential": None,
    "request_id": None,
    "data": {},
}


class Facts(TypedDict, total=False):
    """What an event is about, and who made it happen."""

    actor: Required[str]
    export: ExportId
    run: RunId
    lane: LaneKey | None
    credential: CredentialId | None
    request_id: str | None
    data: Json


def new_event(kind: EventType, **facts: Unpack[Facts]) -> dict[str, Any]:
    """An event to be recorded."""
    return {"id": new_event_id(), "type": kind, **NOTHING, **facts}


async def record(session: AsyncSession, kind: EventType, **facts: Unpack[Facts]) -> None:
    """Write an event into the caller's transaction, and its deliveries to those who want to be told."""
    await record_all(session, [new_event(kind, **facts)])


async def record_all(session: AsyncSession, events: list[dict[str, Any]]) -> None:
    """Write many in one go."""
    await say(session, events)


async def audit(
    session: AsyncSession,
    kind: EventType,
    cause: Cause,
    *,
    lane: LaneKey | None = None,
    credential: CredentialId | None = None,
    data: Json,
) -> None:
    """Write what an administrator did into the caller's transaction, with the note given to it."""
    await record(
        session,
        kind,
        actor=cause.actor,
        request_id=cause.request_id,
        lane=lane,
        credential=credential,
        data=data | ({"note": cause.note} if cause.note else {}),
    )
