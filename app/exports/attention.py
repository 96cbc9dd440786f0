"""What a person should look at: found in the state of things, not kept, so that it ends by itself.

Only that somebody has seen it is kept. What happens again after that is listed again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, bindparam, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.access.models import Client, Credential, CredentialState
from app.artifacts.models import IS_KEPT, Artifact, Refetch
from app.database.base import Base
from app.events.log import Cause, EventType, audit
from app.exports.models import Run, Status
from app.lanes.models import Lane, LaneWait, WaitReason
from app.problems import Code, ProblemError
from app.schedules.models import Schedule
from app.webhooks.models import DeliveryState, DisabledBecause, WebhookDelivery, WebhookEndpoint
from app.webhooks.tries import MOST_TRIES

SKIPS_IN_A_ROW = 3
DEAD_LETTERS_LAST = timedelta(days=30)
# What its caller asked for is nobody else's concern.
BY_REQUEST = (Code.QUEUE_TTL_EXCEEDED,)


class AttentionKind(StrEnum):
    """What is amiss.

    `lane-blocked`: Asana has refused all exports of a workspace for hours. `credential-invalid`: Asana no
    longer accepts a token; store another one. `exports-failed`: exports of a workspace failed for the same
    cause in the last 30 days. `storage-full`: files cannot be stored; make room, and they are fetched.
    `files-missing`: the store lacks files that are kept; what Asana still has is fetched again.
    `schedule-skipping`: three slots of a schedule in a row had no export. `webhooks-failed`: a receiver took
    nothing for three days, answered 410, or did not take all it was sent; mend it, enable its endpoint,
    replay.
    """

    LANE_BLOCKED = "lane-blocked"
    CREDENTIAL_INVALID = "credential-invalid"
    EXPORTS_FAILED = "exports-failed"
    STORAGE_FULL = "storage-full"
    FILES_MISSING = "files-missing"
    SCHEDULE_SKIPPING = "schedule-skipping"
    WEBHOOKS_FAILED = "webhooks-failed"


class Acknowledgement(Base):
    """That somebody has seen an item, and when."""

    __tablename__ = "acknowledgements"

    item: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by: Mapped[str]
    note: Mapped[str | None]


@dataclass(frozen=True)
class AttentionItem:
    """Something amiss since `since`, last seen to happen at `latest`, so many times.

    `workspace` is None where all may be concerned; `cause` is a credential, a schedule, a webhook endpoint or
    the code of a problem.
    """

    kind: AttentionKind
    workspace: str | None
    cause: str | None
    since: datetime
    latest: datetime
    count: int
    acknowledged: Acknowledgement | None = None

    @property
    def id(self) -> str:
        """The same for as long as it lasts."""
        return ".".join(part for part in (self.kind, self.workspace, self.cause) if part)


BLOCKED = (
    select(
        literal(AttentionKind.LANE_BLOCKED).label("kind"),
        Lane.workspace,
        func.nullif(func.split_part(Lane.key, "/", 2), "").label("cause"),
        LaneWait.since.label("since"),
        LaneWait.since.label("latest"),
        Lane.probes.label("count"),
    )
    .join(LaneWait, LaneWait.lane == Lane.key)
    .where(
        LaneWait.until.is_(None),
        LaneWait.reason == WaitReason.UPSTREAM_SLOT_BUSY,
        LaneWait.since < func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("blocked_seconds")),
    )
)
INVALID = select(
    literal(AttentionKind.CREDENTIAL_INVALID).label("kind"),
    literal(None).label("workspace"),
    Credential.id.label("cause"),
    Credential.invalid_since.label("since"),
    Credential.invalid_since.label("latest"),
    select(func.count())
    .where(Run.credential == Credential.id, Run.status == Status.QUEUED)
    .scalar_subquery()
    .label("count"),
).where(Credential.state == CredentialState.INVALID)
FAILED = (
    select(
        literal(AttentionKind.EXPORTS_FAILED).label("kind"),
        Run.workspace,
        Run.error["code"].astext.label("cause"),
        func.min(Run.finished_at).label("since"),
        func.max(Run.finished_at).label("latest"),
        func.count().label("count"),
    )
    .where(
        Run.status == Status.FAILED,
        Run.finished_at > func.now() - DEAD_LETTERS_LAST,
        Run.error["code"].astext.not_in(BY_REQUEST),
    )
    .group_by(Run.workspace, "cause")
)
FULL = (
    select(
        literal(AttentionKind.STORAGE_FULL).label("kind"),
        literal(None).label("workspace"),
        literal(None).label("cause"),
        func.min(Run.slot_freed_at).label("since"),
        func.min(Run.slot_freed_at).label("latest"),
        func.count().label("count"),
    )
    .where(Run.status == Status.ARCHIVING, Run.wait_reason == WaitReason.STORAGE_FULL)
    .having(func.count() > 0)
)
# The cause is why they cannot be had again, if that is known.
MISSING = (
    select(
        literal(AttentionKind.FILES_MISSING).label("kind"),
        Run.workspace,
        Refetch.error["code"].astext.label("cause"),
        func.min(Artifact.missing_since).label("since"),
        func.max(Artifact.missing_since).label("latest"),
        func.count().label("count"),
    )
    .join(Artifact, Artifact.run == Run.id)
    .outerjoin(Refetch, Refetch.artifact == Artifact.id)
    .where(Artifact.missing_since.is_not(None), IS_KEPT)
    .group_by(Run.workspace, "cause")
)
SKIPPING = select(
    literal(AttentionKind.SCHEDULE_SKIPPING).label("kind"),
    Schedule.workspace,
    Schedule.id.label("cause"),
    Schedule.skipping_since.label("since"),
    Schedule.skipped_at.label("latest"),
    Schedule.skips.label("count"),
).where(Schedule.skips >= SKIPS_IN_A_ROW, Schedule.paused_at.is_(None), Schedule.removed_at.is_(None))
UNDELIVERED = (
    select(
        literal(AttentionKind.WEBHOOKS_FAILED).label("kind"),
        literal(None).label("workspace"),
        WebhookEndpoint.id.label("cause"),
        func.coalesce(WebhookEndpoint.disabled_at, func.min(WebhookDelivery.finished_at)).label("since"),
        func.coalesce(WebhookEndpoint.disabled_at, func.max(WebhookDelivery.finished_at)).label("latest"),
        func.count(WebhookDelivery.event).label("count"),
    )
    .outerjoin(
        WebhookDelivery,
        (WebhookDelivery.endpoint == WebhookEndpoint.id)
        & (WebhookDelivery.state == DeliveryState.FAILED)
        & (WebhookEndpoint.disabled_at.is_not(None) | (WebhookDelivery.tries == MOST_TRIES)),
    )
    .where(
        WebhookEndpoint.disabled_because.in_((DisabledBecause.GONE, DisabledBecause.FAILING))
        | (WebhookEndpoint.disabled_at.is_(None) & WebhookDelivery.event.is_not(None))
    )
    .group_by(WebhookEndpoint.id)
)
KINDS: tuple[Select[*tuple[Any, ...]], ...] = (
    BLOCKED,
    INVALID,
    FAILED,
    FULL,
    MISSING,
    SKIPPING,
    UNDELIVERED,
)


async def attention(session: AsyncSession, client: Client, blocked_seconds: float) -> list[AttentionItem]:
    """What the client's administrators should look at, the longest lasting first."""
    items = [
        AttentionItem(**row._mapping)
        for statement in KINDS
        for row in await session.execute(statement, {"blocked_seconds": blocked_seconds})
    ]
    theirs = sorted(_concerning(client, items), key=lambda item: item.since)
    seen = await _acknowledgements(session, [item.id for item in theirs])
    return [_with_acknowledgement(item, seen.get(item.id)) for item in theirs]


async def acknowledge(
    session: AsyncSession, client: Client, item_id: str, blocked_seconds: float, cause: Cause
) -> AttentionItem:
    """Say that somebody has seen it: it is not listed again until it happens again. Raises `ProblemError`."""
    items = await attention(session, client, blocked_seconds)
    found = next((item for item in items if item.id == item_id), None)
    if found is None:
        raise ProblemError(Code.NOT_FOUND, f"Nothing called {item_id} needs attention now.")
    seen = {"at": func.clock_timestamp(), "by": cause.actor, "note": cause.note}
    statement = (
        insert(Acknowledgement)
        .values(item=item_id, **seen)
        .on_conflict_do_update(index_elements=["item"], set_=seen)
    )
    acknowledged = await session.scalar(
        statement.returning(Acknowledgement), execution_options={"populate_existing": True}
    )
    await audit(session, EventType.ATTENTION_ACKNOWLEDGED, cause, data={"item": item_id})
    return replace(found, acknowledged=acknowledged)


def _concerning(client: Client, items: Iterable[AttentionItem]) -> Iterable[AttentionItem]:
    """What concerns all workspaces concerns administrators of all of them."""
    return (item for item in items if client.sees_all_workspaces or item.workspace in client.workspaces)


async def _acknowledgements(session: AsyncSession, ids: Sequence[str]) -> dict[str, Acknowledgement]:
    rows = await session.scalars(select(Acknowledgement).where(Acknowledgement.item.in_(ids)))
    return {row.item: row for row in rows}


def _with_acknowledgement(item: AttentionItem, seen: Acknowledgement | None) -> AttentionItem:
    return replace(item, acknowledged=seen) if seen and seen.at >= item.latest else item
