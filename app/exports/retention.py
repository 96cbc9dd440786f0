"""The end of files by the clock, in small steps, each bearing to be taken by two workers at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import Artifact, ArtifactState, Conversion, OutputFile, Refetch
from app.events.log import Cause, EventType
from app.exports.keeping import change_artifact
from app.ids import ArtifactId

AT_ONCE = 20
# A download that has begun ends well, and nothing is lost should somebody's clock be wrong.
GRACE = timedelta(hours=6)


@dataclass(frozen=True)
class Removable:
    """An artifact that has ended, and what the store may have of it."""

    artifact: ArtifactId
    keys: tuple[str, ...]


async def tell_expiring(session: AsyncSession, notice: timedelta, actor: str) -> int:
    """Announce the end of files that is near; returns of how many."""
    return await _change_due(
        session,
        (Artifact.state == ArtifactState.AVAILABLE, Artifact.expires_at <= func.now() + notice),
        ArtifactState.EXPIRING,
        EventType.ARTIFACT_EXPIRING,
        actor,
    )


async def expire(session: AsyncSession, actor: str) -> int:
    """End files whose time is over and whose end was announced; returns how many."""
    return await _change_due(
        session,
        (Artifact.state == ArtifactState.EXPIRING, Artifact.expires_at <= func.now()),
        ArtifactState.EXPIRED,
        EventType.ARTIFACT_EXPIRED,
        actor,
    )


async def removable(session: AsyncSession, last: ArtifactId | None) -> Sequence[Removable]:
    """Some artifacts that ended long enough ago for their files to go, from the one after `last` on."""
    over = select(Artifact).where(Artifact.removed_at.is_(None), Artifact.ended_at <= func.now() - GRACE)
    if last:
        over = over.where(Artifact.id > last)
    artifacts = (await session.scalars(over.order_by(Artifact.id).limit(AT_ONCE))).all()
    ids = [artifact.id for artifact in artifacts]
    made = (await session.scalars(select(OutputFile).where(OutputFile.artifact.in_(ids)))).all()
    return [
        Removable(
            artifact.id,
            (
                artifact.key,
                artifact.duplicates_key,
                *(file.key for file in made if file.artifact == artifact.id),
            ),
        )
        for artifact in artifacts
    ]


async def removed(session: AsyncSession, artifact: ArtifactId) -> None:
    """The store has nothing of it any more."""
    await session.execute(
        update(Artifact)
        .where(Artifact.id == artifact, Artifact.removed_at.is_(None))
        .values(removed_at=func.now(), missing_since=None)
    )
    await session.execute(delete(Conversion).where(Conversion.artifact == artifact))
    await session.execute(delete(Refetch).where(Refetch.artifact == artifact))


async def _change_due(
    session: AsyncSession,
    due: Sequence[ColumnElement[bool]],
    to: ArtifactState,
    kind: EventType,
    actor: str,
) -> int:
    """What others have locked is theirs to change, or is looked at again in the next round."""
    found = select(Artifact).where(*due, Artifact.held_at.is_(None)).order_by(Artifact.expires_at)
    artifacts = await session.scalars(found.limit(AT_ONCE).with_for_update(skip_locked=True))
    changing = artifacts.all()
    for artifact in changing:
        await change_artifact(session, artifact, to, kind, Cause(actor))
    return len(changing)
