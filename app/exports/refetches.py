"""Fetching an archived file from Asana again: asked for by people and rounds, done by a worker."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client
from app.artifacts.models import IS_KEPT, Artifact, Refetch, RefetchState
from app.events.log import Cause, EventType
from app.exports.keeping import change_artifact, locked
from app.exports.latency import database_now
from app.exports.models import Run
from app.exports.reading import kept_artifact
from app.ids import ArtifactId, WorkerId
from app.problems import Code, Problem, ProblemError

ASANA_KEEPS = timedelta(days=30)

# One that is on its way stays as it is; the fence goes on, for it names files in the store.
ASK = text("""
    INSERT INTO refetches (artifact, state) VALUES (:artifact, 'pending')
    ON CONFLICT (artifact) DO UPDATE
    SET state = 'pending', error = NULL, finished_at = NULL, worker = NULL, failures = 0,
        not_before = now(), requested_at = now()
    WHERE refetches.state <> 'pending'
""")
# As conversions are claimed.
CLAIM = text("""
    WITH next AS (
        SELECT artifact FROM refetches
        WHERE state = 'pending' AND not_before <= now() AND (
            worker IS NULL OR worker = :worker
            OR worker IN (SELECT id FROM workers WHERE lease_expires_at < now()))
        ORDER BY requested_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED)
    UPDATE refetches SET worker = :worker, fence = fence + 1,
        failures = failures + (worker IS NOT NULL AND worker <> :worker)::int
    FROM next WHERE refetches.artifact = next.artifact
    RETURNING refetches.artifact, refetches.fence, refetches.failures,
        extract(epoch FROM now() - requested_at)::float AS waited
""")
PUT_BACK = text("""
    UPDATE refetches SET worker = NULL, failures = failures + :failures,
        not_before = now() + make_interval(secs => :seconds)
    WHERE artifact = :artifact AND worker = :worker AND fence = :fence
""")


class RefetchLost(Exception):
    """It is no longer this worker's, or the artifact is no longer kept: nothing was written."""


@dataclass(frozen=True)
class HeldRefetch:
    """A refetch as held by one worker: how often it has failed, and seconds since it was asked for."""

    artifact: ArtifactId
    worker: WorkerId
    fence: int
    failures: int
    waited: float


async def request_refetch(
    session: AsyncSession, client: Client, artifact_id: ArtifactId, cause: Cause
) -> Refetch:
    """Have the file fetched again, unless it is about to be.

    Raises `ProblemError`: `not-found`, `artifact-expired`, and `upstream-artifact-expired` where Asana has
    had it for longer than it keeps files.
    """
    _, run = await kept_artifact(session, client, artifact_id)
    now, since = await database_now(session), run.slot_freed_at or run.created_at
    if since + ASANA_KEEPS < now:
        detail = f"Asana finished it at {since:%Y-%m-%d %H:%M} UTC, and keeps files for 30 days."
        raise ProblemError(Code.UPSTREAM_ARTIFACT_EXPIRED, detail)
    artifact = await locked(session, select(Artifact).where(Artifact.id == artifact_id, IS_KEPT))
    if artifact is None:
        raise ProblemError(Code.ARTIFACT_EXPIRED, f"The file of artifact {artifact_id} is no longer kept.")
    await ask_for_refetch(session, artifact, cause)
    return await session.get_one(Refetch, artifact_id, populate_existing=True)


async def ask_for_refetch(session: AsyncSession, artifact: Artifact, cause: Cause) -> None:
    """The same within a transaction that has the artifact locked."""
    asked = await session.execute(ASK, {"artifact": artifact.id})
    if asked.rowcount:  # type: ignore[attr-defined]
        kind = EventType.ARTIFACT_REFETCH_REQUESTED
        await change_artifact(session, artifact, artifact.state, kind, cause)


async def refetch_of(session: AsyncSession, client: Client, artifact_id: ArtifactId) -> Refetch:
    """How far it is. Raises `ProblemError` `not-found` where nobody has asked for it."""
    await kept_artifact(session, client, artifact_id)
    found = await session.get(Refetch, artifact_id)
    if found is None:
        raise ProblemError(Code.NOT_FOUND, f"Nobody has asked to fetch {artifact_id} again.")
    return found


async def claim_refetch(session: AsyncSession, worker: WorkerId) -> HeldRefetch | None:
    """Take the one that has waited for longest, if any waits."""
    row = (await session.execute(CLAIM, {"worker": worker})).one_or_none()
    return HeldRefetch(row.artifact, worker, row.fence, row.failures, row.waited) if row else None


async def wanted_again(session: AsyncSession, held: HeldRefetch) -> tuple[Artifact, Run] | None:
    """What is to be fetched again, if it is still kept."""
    wanted = select(Artifact, Run).join(Run, Run.id == Artifact.run)
    row = (await session.execute(wanted.where(Artifact.id == held.artifact, IS_KEPT))).one_or_none()
    return (row.Artifact, row.Run) if row else None


async def refetched(session: AsyncSession, held: HeldRefetch, key: str, location: str) -> None:
    """The same file is in the store again, by another key; what there was of the old one is garbage.

    Raises `RefetchLost`.
    """
    artifact = await locked(session, select(Artifact).where(Artifact.id == held.artifact, IS_KEPT))
    if artifact and artifact.key == key:
        return  # committed before, and only the answer was lost
    refetch = await _locked(session, held)
    if artifact is None:
        raise RefetchLost(held.artifact)
    _check(refetch, held)
    artifact.key, artifact.location, artifact.missing_since = key, location, None
    _end(refetch, RefetchState.DONE)
    await change_artifact(session, artifact, artifact.state, EventType.ARTIFACT_REFETCHED, Cause(held.worker))


async def refetch_failed(session: AsyncSession, held: HeldRefetch, problem: Problem) -> None:
    """The file cannot be had again; nothing was replaced. Raises `RefetchLost`."""
    artifact = await locked(session, select(Artifact).where(Artifact.id == held.artifact))
    refetch = await _locked(session, held)
    if refetch.state is RefetchState.FAILED and refetch.fence == held.fence:
        return
    if artifact is None:
        raise RefetchLost(held.artifact)
    _check(refetch, held)
    _end(refetch, RefetchState.FAILED, problem)
    kind = EventType.ARTIFACT_REFETCH_FAILED
    await change_artifact(
        session, artifact, artifact.state, kind, Cause(held.worker), code=problem.code, detail=problem.detail
    )


async def put_back_refetch(
    session: AsyncSession, held: HeldRefetch, *, seconds: float, failures: int
) -> None:
    """Let any worker try again after so many seconds; bears being repeated."""
    await session.execute(
        PUT_BACK,
        {
            "artifact": held.artifact,
            "worker": held.worker,
            "fence": held.fence,
            "seconds": seconds,
            "failures": failures,
        },
    )


async def _locked(session: AsyncSession, held: HeldRefetch) -> Refetch:
    refetch = await session.get(Refetch, held.artifact, with_for_update=True, populate_existing=True)
    if refetch is None:
        raise RefetchLost(held.artifact)
    return refetch


def _check(refetch: Refetch, held: HeldRefetch) -> None:
    if (refetch.worker, refetch.fence) != (held.worker, held.fence):
        raise RefetchLost(held.artifact)


def _end(refetch: Refetch, state: RefetchState, problem: Problem | None = None) -> None:
    refetch.state, refetch.worker = state, None
    refetch.error = problem.as_error() if problem else None
    refetch.finished_at = func.clock_timestamp()
