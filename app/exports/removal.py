"""What people decide about a file: that it goes, or that it must stay."""

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Scope
from app.artifacts.models import ENDED, KEPT, Artifact, ArtifactState
from app.events.log import Cause, EventType
from app.exports.keeping import change_artifact, lengthen, locked
from app.exports.latency import database_now
from app.exports.models import Export, Status
from app.exports.reading import visible_artifact
from app.ids import ArtifactId
from app.problems import Code, ProblemError


async def delete_artifact(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, cause: Cause
) -> None:
    """Let nobody have the file from now on; nothing happens where it has ended already.

    Raises `ProblemError`: `not-found`, `legal-hold`, and `artifact-shared` where another client has asked for
    it too, unless an administrator deletes it.
    """
    artifact = await _visible_and_locked(session, client, artifact_id)
    if artifact.state in ENDED:
        return
    if artifact.held_at:
        raise ProblemError(Code.LEGAL_HOLD, f"Artifact {artifact_id} is held since {artifact.held_at}.")
    if not client.may(Scope.ADMIN) and await _shared_with_others(session, client, artifact):
        detail = f"Artifact {artifact_id} is the file of another client's export, too."
        raise ProblemError(Code.ARTIFACT_SHARED, detail)
    await change_artifact(session, artifact, ArtifactState.DELETED, EventType.ARTIFACT_DELETED, cause)


async def hold_artifact(session: AsyncSession, client: Client, artifact_id: ArtifactId, cause: Cause) -> None:
    """Let a file neither expire nor be deleted. Raises `ProblemError`: `not-found`, `artifact-expired`."""
    artifact = await _visible_and_locked(session, client, artifact_id)
    now = await database_now(session)
    if artifact.state_at(now) not in KEPT:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is no longer kept.")
    if artifact.held_at is None:
        artifact.held_at = now
        await change_artifact(session, artifact, ArtifactState.AVAILABLE, EventType.ARTIFACT_HELD, cause)


async def release_artifact(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, notice: timedelta, cause: Cause
) -> None:
    """End a hold. The file is kept for the time of notice at least. Raises `ProblemError` `not-found`."""
    artifact = await _visible_and_locked(session, client, artifact_id)
    if artifact.held_at is None:
        return
    artifact.held_at = None
    await change_artifact(session, artifact, ArtifactState.AVAILABLE, EventType.ARTIFACT_RELEASED, cause)
    await lengthen(session, artifact, await database_now(session) + notice, cause)


async def _visible_and_locked(session: AsyncSession, client: Client, artifact_id: ArtifactId) -> Artifact:
    await visible_artifact(session, client, artifact_id)
    artifact = await locked(session, select(Artifact).where(Artifact.id == artifact_id))
    if artifact is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no artifact {artifact_id}.")
    return artifact


async def _shared_with_others(session: AsyncSession, client: Client, artifact: Artifact) -> bool:
    theirs = select(Export.id).where(
        Export.run == artifact.run, Export.status == Status.SUCCEEDED, Export.client != client.id
    )
    return await session.scalar(theirs.limit(1)) is not None
