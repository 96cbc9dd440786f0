"""Exports as their callers see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, select, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.access.models import Client, Credential, CredentialState, Kind, Scope
from app.artifacts.models import KEPT, Artifact, ArtifactState
from app.events.log import Event
from app.exports.latency import Latency, database_now, lane_waits, latency
from app.exports.models import Export, Run, Status
from app.exports.order import positions
from app.exports.states import FINAL, LIVE
from app.ids import ArtifactId, ExportId, RunId, ScheduleId
from app.lanes.models import Lane, LaneWait, WaitReason
from app.problems import Code, ProblemError


@dataclass(frozen=True)
class ExportView:
    """An export with all that is told of it; `ahead` counts the runs that go before its own."""

    export: Export
    run: Run
    lane: Lane
    artifact: Artifact | None
    artifact_state: ArtifactState | None
    client: str
    shared: bool
    ahead: int | None
    slot_taken_since: datetime | None
    wait_reason: WaitReason | None
    latency: Latency
    now: datetime


@dataclass(frozen=True)
class ExportFilter:
    """What to list; a label is its name and value."""

    workspace: str | None = None
    status: Status | None = None
    kind: Kind | None = None
    label: tuple[str, str] | None = None
    created_after: datetime | None = None
    schedule: ScheduleId | None = None


# What keeps the run waiting, if anything: another one of the lane in the slot, and since when.
LIVE_RUN, OTHER = aliased(Run), aliased(Export)
SLOT_TAKEN_SINCE = (
    select(func.coalesce(LIVE_RUN.submitted_at, func.now()))
    .where(LIVE_RUN.lane == Run.lane, LIVE_RUN.id != Run.id, LIVE_RUN.status.in_(LIVE))
    .correlate(Run)
    .scalar_subquery()
)
SHARED = (
    select(OTHER.id)
    .where(OTHER.run == Export.run, OTHER.id != Export.id, OTHER.status != Status.CANCELED)
    .correlate(Export)
    .exists()
)
VIEWS = (
    select(
        Export,
        Run,
        Artifact,
        Lane,
        Client.name.label("client"),
        SLOT_TAKEN_SINCE.label("slot_taken_since"),
        SHARED.label("shared"),
        Credential.state.label("token"),
        func.clock_timestamp().label("now"),
    )
    .join(Run, Run.id == Export.run)
    .join(Client, Client.id == Export.client)
    .join(Lane, Lane.key == Run.lane)
    .join(Credential, Credential.id == Run.credential)
    .outerjoin(Artifact, Artifact.run == Run.id)
    .execution_options(populate_existing=True)
)
ONE_VIEW = VIEWS.where(Export.id == bindparam("id"))
ONE_EXPORT = select(Export).where(Export.id == bindparam("id"))


async def export_view(session: AsyncSession, client: Client, export_id: ExportId) -> ExportView:
    """One export. Raises `ProblemError` `not-found` for one that the client may not see, too."""
    views = await _read(session, ONE_VIEW, {"id": export_id})
    if not views or not _may_see(client, views[0].export):
        raise ProblemError(Code.NOT_FOUND, f"There is no export {export_id} that you may see.")
    return views[0]


async def export_views(
    session: AsyncSession, client: Client, wanted: ExportFilter, *, before: ExportId | None, most: int
) -> list[ExportView]:
    """The newest first, from the one after `before`: a place that does not move when exports come or go."""
    statement = VIEWS.where(_visible(client)).order_by(Export.id.desc()).limit(most)
    if before:
        statement = statement.where(Export.id < before)
    if wanted.workspace:
        statement = statement.where(Export.workspace == wanted.workspace)
    if wanted.status:
        statement = statement.where(Export.status == wanted.status)
    if wanted.kind:
        statement = statement.where(Export.kind == wanted.kind)
    if wanted.label:
        statement = statement.where(Export.labels.contains(dict([wanted.label])))
    if wanted.created_after:
        statement = statement.where(Export.created_at > wanted.created_after)
    if wanted.schedule:
        statement = statement.where(Export.schedule == wanted.schedule)
    return await _read(session, statement, {})


async def views_of(session: AsyncSession, exports: Sequence[ExportId]) -> list[ExportView]:
    """These exports, whosever they are."""
    return await _read(session, VIEWS.where(Export.id.in_(exports)), {}) if exports else []


async def timeline(session: AsyncSession, client: Client, export_id: ExportId) -> Sequence[Event]:
    """What happened to an export, in order."""
    await visible_export(session, client, export_id)
    return (await session.scalars(select(Event).where(Event.export == export_id).order_by(Event.seq))).all()


async def visible_export(session: AsyncSession, client: Client, export_id: ExportId) -> Export:
    """An export alone. Raises `ProblemError` `not-found` for one that the client may not see, too."""
    export: Export | None = await session.scalar(ONE_EXPORT, {"id": export_id})
    if export is None or not _may_see(client, export):
        raise ProblemError(Code.NOT_FOUND, f"There is no export {export_id} that you may see.")
    return export


async def visible_artifact(
    session: AsyncSession, client: Client, artifact_id: ArtifactId
) -> tuple[Artifact, Run]:
    """An artifact and its run, for a client that has an export with this outcome."""
    exists = (
        select(Export.id)
        .where(Export.run == Artifact.run, Export.status == Status.SUCCEEDED, _visible(client))
        .exists()
    )
    row = (
        await session.execute(
            select(Artifact, Run).join(Run, Run.id == Artifact.run).where(Artifact.id == artifact_id, exists)
        )
    ).one_or_none()
    if row is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no artifact {artifact_id} that you may see.")
    return row.Artifact, row.Run


async def kept_artifact(
    session: AsyncSession, client: Client, artifact_id: ArtifactId
) -> tuple[Artifact, Run]:
    """The same, while its file can be had. Raises `ProblemError` `artifact-expired` from then on."""
    artifact, run = await visible_artifact(session, client, artifact_id)
    state = artifact.state_at(await database_now(session))
    if state not in KEPT:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is {state}.")
    return artifact, run


def _may_see(client: Client, export: Export) -> bool:
    return client.may(Scope.ADMIN) or export.client == client.id


def _visible(client: Client) -> ColumnElement[bool]:
    return true() if client.may(Scope.ADMIN) else Export.client == client.id


async def _read(
    session: AsyncSession, statement: Select[*tuple[Any, ...]], values: dict[str, Any]
) -> list[ExportView]:
    rows = (await session.execute(statement, values)).all()
    queued = [row for row in rows if row.Export.status is Status.QUEUED]
    ahead = await positions(session, {row.Run for row in queued if row.Run.status is Status.QUEUED})
    waits: Sequence[LaneWait] = ()
    if queued:
        since = min(row.Export.phase_since for row in queued)
        waits = await lane_waits(session, [row.Lane.key for row in queued], since)
    return [_view(row, ahead, waits) for row in rows]


def _view(row: Row[Any], positions: dict[RunId, int], waits: Sequence[LaneWait]) -> ExportView:
    export, run = row.Export, row.Run
    # A queued export whose run is not queued is being tried at Asana: nobody goes before it.
    ahead = positions.get(run.id, 0) if export.status is Status.QUEUED else None
    artifact = row.Artifact if export.status is Status.SUCCEEDED else None
    return ExportView(
        export=export,
        run=run,
        lane=row.Lane,
        artifact=artifact,
        artifact_state=artifact.state_at(row.now) if artifact else None,
        client=row.client,
        shared=row.shared,
        ahead=ahead,
        slot_taken_since=row.slot_taken_since,
        wait_reason=_wait_reason(row, ahead),
        latency=latency(export, waits, run.not_before, row.now),
        now=row.now,
    )


def _wait_reason(row: Row[Any], ahead: int | None) -> WaitReason | None:
    """Why an export is not moving; None only while it is."""
    export, run = row.Export, row.Run
    if export.status in FINAL or ahead is None:
        reason: WaitReason | None = None if export.status in FINAL else run.wait_reason
        return reason
    if row.Lane.paused_at is not None:
        return WaitReason.LANE_PAUSED
    if row.token is CredentialState.INVALID:
        return WaitReason.CREDENTIAL_INVALID
    if run.not_before > row.now:
        return WaitReason.BACKOFF
    if ahead or row.slot_taken_since:
        return WaitReason.BEHIND_OTHERS
    reason = row.Lane.wait_reason if run.status is Status.QUEUED else WaitReason.UPSTREAM_SLOT_BUSY
    return reason or WaitReason.WAITING_FOR_WORKER
