"""Accepting a request: durable when the caller hears of it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Credential, CredentialState, Grant, Kind, Priority, Workspace
from app.database.base import BigInt
from app.events.log import Cause, EventType, record
from app.exports.keeping import keep_for_another
from app.exports.models import Export, Run, Status
from app.exports.order import CLASS_LASTS, place_for, stand
from app.exports.quotas import RETRY_AFTER, Limits, check_quotas
from app.exports.requests import ExportRequest
from app.exports.sharing import fingerprint, joinable
from app.exports.states import join
from app.ids import ExportId, LaneKey, ScheduleId, new_export_id, new_run_id
from app.lanes.enqueue import enter_lane, wake_lane
from app.lanes.models import Lane
from app.metrics import ACCEPTED, once_committed
from app.problems import Code, Fault, ProblemError
from app.schedules.models import actor_of
from app.settings import LaneScope, Settings
from app.traces import note, traceparent

log = structlog.get_logger()


@dataclass(frozen=True)
class Slot:
    """The moment of a schedule for which an export is asked for."""

    schedule: ScheduleId
    at: datetime


@dataclass(frozen=True)
class Submission:
    """One caller's wish: what is asked of Asana, and how it is to be treated here."""

    request: ExportRequest
    priority: Priority = Priority.NORMAL
    labels: dict[str, str] = field(default_factory=dict)
    max_age: int = 0
    deliver_by: datetime | None = None
    queue_ttl: int | None = None
    retry_of: ExportId | None = None
    slot: Slot | None = None
    request_id: str | None = None

    def actor(self, client: Client) -> str:
        """Who asks, as the event log calls it."""
        return actor_of(self.slot.schedule) if self.slot else client.actor


@dataclass(frozen=True)
class Rules:
    """What the settings say of accepting."""

    lane_scope: LaneScope = LaneScope.WORKSPACE
    limits: Limits = field(default_factory=Limits)
    retention: timedelta = timedelta(days=90)

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(settings.lane_scope, Limits(settings.max_queued_per_lane), settings.retention)


@dataclass(frozen=True)
class Admitted:
    """Who may export what, by which credential and in which lane."""

    workspace: Workspace
    credential: Credential
    grant: Grant
    lane: LaneKey
    draining_at: datetime | None
    fingerprint: str


ADMISSION = (
    select(Workspace, Credential, Lane.draining_at)
    .join(Credential, Credential.id == Workspace.credential)
    .outerjoin(Lane, Lane.key == bindparam("lane"))
    .where(Workspace.gid == bindparam("gid"), Workspace.removed_at.is_(None))
    .execution_options(populate_existing=True)
)


async def accept(session: AsyncSession, client: Client, wanted: Submission, rules: Rules) -> Export:
    """Accept an export in the caller's transaction, which the caller commits before answering.

    It joins a run that does the same work, or queues one of its own. Raises `ProblemError`: `not-found` for a
    workspace that is not registered or not granted (which of the two is not told), `validation-failed` for a
    priority above the grant's, `quota-exceeded` and `queue-full`, `lane-draining`.
    """
    admitted = await admit(session, client, wanted, rules.lane_scope)
    lane = await enter_lane(session, admitted.lane, admitted.workspace.gid)
    refuse_draining(admitted.workspace.gid, lane.draining_at)
    now = lane.now
    await check_quotas(session, client, admitted.grant, admitted.lane, rules.limits)
    shared = await _shared(session, client, wanted, admitted, rules.retention)
    run = shared or await _new_run(session, client, wanted, admitted, now)
    export = await _new_export(session, client, wanted, run, now)
    note(export=export.id, run=run.id)
    if shared:
        await join(session, shared, export, actor=wanted.actor(client), request_id=wanted.request_id)
        if shared.status is Status.QUEUED:
            await stand(session, shared, now)
    if run.status is Status.QUEUED:
        has_token = admitted.credential.state is CredentialState.VALID
        await wake_lane(session, run.lane, has_token=has_token)
    return export


async def _shared(
    session: AsyncSession, client: Client, wanted: Submission, admitted: Admitted, retention: timedelta
) -> Run | None:
    """A run that does the same work; if it has a file, that is kept for as long as the client wishes."""
    run = await joinable(session, admitted.fingerprint, wanted.max_age, lock=True)
    if run is None or run.status is not Status.SUCCEEDED:
        return run
    days = client.retention_days or admitted.workspace.retention_days
    wish = timedelta(days=days) if days else retention
    cause = Cause(client.actor, wanted.request_id)
    # Its file may have ended since.
    return run if await keep_for_another(session, run.id, wish, cause) else None


async def admit(
    session: AsyncSession, client: Client, wanted: Submission, scope: LaneScope, *, place: str = ""
) -> Admitted:
    """See that the client may ask for this, which stands at `place` in the body.

    Raises `ProblemError` `not-found` and `validation-failed`, see `accept`.
    """
    request = wanted.request
    grant = client.grant_for(request.workspace, request.kind)
    lane = lane_of(request.workspace, request.kind, scope)
    known = (await session.execute(ADMISSION, {"gid": request.workspace, "lane": lane})).one_or_none()
    if grant is None or known is None:
        raise ProblemError(
            Code.NOT_FOUND,
            f"There is no workspace {request.workspace} that you may export by a {request.kind} export.",
        )
    if wanted.priority.rank < grant.highest_priority.rank:
        fault = Fault(
            f"{place}/priority",
            f"your grant for workspace {request.workspace} allows {grant.highest_priority} at most",
        )
        raise ProblemError(Code.VALIDATION_FAILED, "The request has 1 fault.", (fault,))
    same = fingerprint(request.kind, request.workspace, request.canonical(), known.Credential)
    return Admitted(known.Workspace, known.Credential, grant, lane, known.draining_at, same)


def refuse_draining(workspace: str, draining_at: datetime | None) -> None:
    """Raises `ProblemError` `lane-draining` where it drains."""
    if draining_at:
        detail = f"The lane of workspace {workspace} takes no new exports."
        raise ProblemError(Code.LANE_DRAINING, detail, retry_after=RETRY_AFTER)


def lane_of(workspace: str, kind: Kind, scope: LaneScope) -> LaneKey:
    """The lane whose slot an export of the workspace needs."""
    return LaneKey(workspace if scope is LaneScope.WORKSPACE else f"{workspace}/{kind}")


async def _new_run(
    session: AsyncSession, client: Client, wanted: Submission, admitted: Admitted, now: datetime
) -> Run:
    place = await place_for(session, admitted.lane, client.id, wanted.priority, wanted.deliver_by)
    promotes_at = now + CLASS_LASTS if place.rank else None
    run = Run(
        id=new_run_id(),
        lane=admitted.lane,
        workspace=admitted.workspace.gid,
        credential=admitted.credential.id,
        kind=wanted.request.kind,
        request=wanted.request.for_asana(),
        fingerprint=admitted.fingerprint,
        shape=wanted.request.shape(),
        status=Status.QUEUED,
        client=client.id,
        rank=place.rank,
        due=place.due,
        turn=BigInt(place.turn),
        promotes_at=promotes_at,
        queued_at=now,
        not_before=now,
        traceparent=traceparent(),
    )
    session.add(run)
    await session.flush()
    return run


async def _new_export(
    session: AsyncSession, client: Client, wanted: Submission, run: Run, now: datetime
) -> Export:
    export = Export(
        id=new_export_id(),
        client=client.id,
        run=run.id,
        lane=run.lane,
        kind=wanted.request.kind,
        workspace=wanted.request.workspace,
        status=Status.QUEUED,
        priority=wanted.priority,
        request=wanted.request.for_asana(),
        labels=wanted.labels,
        deliver_by=wanted.deliver_by,
        queue_until=now + timedelta(seconds=wanted.queue_ttl) if wanted.queue_ttl else None,
        retry_of=wanted.retry_of,
        schedule=wanted.slot.schedule if wanted.slot else None,
        slot=wanted.slot.at if wanted.slot else None,
        created_at=now,
        phase_since=now,
    )
    session.add(export)
    await session.flush()
    once_committed(session, lambda: _told(export))
    await record(
        session,
        EventType.EXPORT_CREATED,
        actor=wanted.actor(client),
        export=export.id,
        run=run.id,
        lane=run.lane,
        request_id=wanted.request_id,
        data={"status": Status.QUEUED, "version": 1, "priority": wanted.priority},
    )
    return export


def _told(export: Export) -> None:
    ACCEPTED.labels(export.kind).inc()
    log.info("export.accepted", export=export.id, run=export.run, lane=export.lane)
