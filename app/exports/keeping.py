"""The one place where a file changes its state, and for how long it is kept."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import ENDED, IS_KEPT, Artifact, ArtifactState
from app.events.log import Cause, EventType, record
from app.exports.latency import database_now
from app.exports.models import Run
from app.exports.states import IllegalChange
from app.ids import ArtifactId, RunId

MAY_BECOME: dict[ArtifactState, frozenset[ArtifactState]] = {
    ArtifactState.AVAILABLE: frozenset({ArtifactState.EXPIRING, ArtifactState.DELETED}),
    ArtifactState.EXPIRING: frozenset(
        {ArtifactState.AVAILABLE, ArtifactState.EXPIRED, ArtifactState.DELETED}
    ),
    ArtifactState.EXPIRED: frozenset(),
    ArtifactState.DELETED: frozenset(),
}

# Each client has a wish of its own, that of the workspace, or the default, which the row came with.
KEEP_AS_WISHED = text("""
    UPDATE artifacts SET expires_at = (
        SELECT max(coalesce(
            now() + make_interval(days => coalesce(clients.retention_days, workspaces.retention_days)),
            artifacts.expires_at))
        FROM exports
        JOIN clients ON clients.id = exports.client
        JOIN workspaces ON workspaces.gid = exports.workspace
        WHERE exports.run = artifacts.run AND exports.status = 'succeeded')
    WHERE id = :artifact AND EXISTS (
        SELECT FROM exports WHERE exports.run = artifacts.run AND exports.status = 'succeeded')
""")


async def change_artifact(
    session: AsyncSession,
    artifact: Artifact,
    to: ArtifactState,
    kind: EventType,
    cause: Cause,
    **facts: Any,
) -> None:
    """Bring a file into a state, or something else about it into being in the same one, with an event.

    The caller holds its row lock. Raises `IllegalChange` where there is no such step.
    """
    if to is not artifact.state and to not in MAY_BECOME[artifact.state]:
        raise IllegalChange(f"{artifact.id}: {artifact.state} may not become {to}")
    if to in ENDED and artifact.state not in ENDED:
        artifact.ended_at = await database_now(session)
    artifact.state = to
    await session.flush()
    run = await session.get_one(Run, artifact.run)
    told = {"artifact": artifact.id, "state": to, "expires_at": artifact.expires_at.isoformat(), **facts}
    await record(
        session,
        kind,
        actor=cause.actor,
        request_id=cause.request_id,
        run=run.id,
        lane=run.lane,
        data=told | ({"note": cause.note} if cause.note else {}),
    )


async def keep_as_wished(session: AsyncSession, artifact: ArtifactId) -> None:
    """Let a file that was archived just now expire at the longest wish of those who have asked for it."""
    await session.execute(KEEP_AS_WISHED, {"artifact": artifact})


async def keep_for_another(session: AsyncSession, run: RunId, wish: timedelta, cause: Cause) -> bool:
    """Keep the file of a run for an export that joins it, for so long from now if that is longer.

    False when there is no file to be had any more.
    """
    of_run = select(Artifact).where(Artifact.run == run, IS_KEPT, Artifact.missing_since.is_(None))
    artifact = await locked(session, of_run)
    if artifact is None:
        return False
    await lengthen(session, artifact, await database_now(session) + wish, cause)
    return True


async def lengthen(session: AsyncSession, artifact: Artifact, until: datetime, cause: Cause) -> None:
    """Keep a file at least until then."""
    if artifact.expires_at < until:
        artifact.expires_at = until
        await change_artifact(session, artifact, ArtifactState.AVAILABLE, EventType.ARTIFACT_EXTENDED, cause)


async def locked(session: AsyncSession, found: Select[Artifact]) -> Artifact | None:
    """The artifact that a statement finds, as it is now, its row locked until the transaction ends."""
    artifact: Artifact | None = await session.scalar(
        found.with_for_update(of=Artifact), execution_options={"populate_existing": True}
    )
    return artifact
