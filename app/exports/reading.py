"""Exports as their callers see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, false, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.access.models import Client, Kind, Scope
from app.artifacts.models import Artifact, ArtifactState
from app.events.log import Event
from app.exports.models import Export, Run, Status
from app.exports.order import count_ahead
from app.exports.states import LIVE
from app.ids import ArtifactId, ExportId
from app.lanes.models import Lane, WaitReason
from app.problems import Code, ProblemError


@dataclass(frozen=True)
class ExportView:
    """An export with all that is told of it; `ahead` counts the queued runs before its own."""

    export: Export
    run: Run
    artifact: Artifact | None
    artifact_state: ArtifactState | None
    client: str
    ahead: int | None
    wait_reason: WaitReason | None


@dataclass(frozen=True)
class ExportFilter:
    """What to list; a label is its name and value."""

    workspace: str | None = None
    status: Status | None = None
    kind: Kind | None = None
    label: tuple[str, str] | None = None
    created_after: datetime | None = None


async def export_view(session: AsyncSession, client: Client, export_id: ExportId) -> ExportView:
    """One export. Raises `ProblemError` `not-found` for one that the client may not see, too."""
    row = (await session.execute(_views(client).where(Export.id == export_id))).one_or_none()
    if row is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no export {export_id} that you may see.")
    return _view(row)


async def export_views(
    session: AsyncSession, client: Client, wanted: ExportFilter, *, before: ExportId | None, most: int
) -> list[ExportView]:
    """The newest first, from the one after `before`: a place that does not move when exports come or go."""
    statement = _views(client).order_by(Export.id.desc()).limit(most)
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
    return [_view(row) for row in await session.execute(statement)]


async def timeline(session: AsyncSession, client: Client, export_id: ExportId) -> Sequence[Event]:
    """What happened to an export, in order."""
    await export_view(session, client, export_id)
    return (await session.scalars(select(Event).where(Event.export == export_id).order_by(Event.seq))).all()


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


def _visible(client: Client) -> Any:
    return Export.client == client.id if not client.may(Scope.ADMIN) else ~false()


def _views(client: Client) -> Select[*tuple[Any, ...]]:
    live = aliased(Run)
    slot_taken = (
        select(live.id).where(live.lane == Run.lane, live.id != Run.id, live.status.in_(LIVE)).exists()
    )
    return (
        select(
            Export,
            Run,
            Artifact,
            Lane,
            Client.name.label("client"),
            count_ahead().label("ahead"),
            slot_taken.label("slot_taken"),
            (Run.not_before > func.now()).label("held_back"),
            func.now().label("now"),
        )
        .join(Run, Run.id == Export.run)
        .join(Client, Client.id == Export.client)
        .join(Lane, Lane.key == Run.lane)
        .outerjoin(Artifact, Artifact.run == Run.id)
        .where(_visible(client))
        .execution_options(populate_existing=True)
    )


def _view(row: Row[Any]) -> ExportView:
    queued = row.Export.status is Status.QUEUED
    # A queued export whose run is not queued is being tried at Asana: nobody goes before it.
    ahead = row.ahead if row.Run.status is Status.QUEUED else 0
    artifact = row.Artifact if row.Export.status is Status.SUCCEEDED else None
    return ExportView(
        export=row.Export,
        run=row.Run,
        artifact=artifact,
        artifact_state=artifact.state_at(row.now) if artifact else None,
        client=row.client,
        ahead=ahead if queued else None,
        wait_reason=_reason_in_queue(row, ahead) if queued else row.Run.wait_reason,
    )


def _reason_in_queue(row: Row[Any], ahead: int) -> WaitReason | None:
    """Why a queued export is not running yet; None when a worker may take it any moment."""
    if row.Lane.paused_at is not None:
        return WaitReason.LANE_PAUSED
    if row.held_back:
        return WaitReason.BACKOFF
    if ahead or row.slot_taken:
        return WaitReason.BEHIND_OTHERS
    reason: WaitReason | None = row.Lane.wait_reason
    return reason
