"""What a worker does to a conversion, each step under the fence by which it holds it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import Artifact, Conversion, ConversionState, OutputFile
from app.artifacts.outputs import Format
from app.database.base import Json
from app.events.log import EventType, record
from app.exports.models import Run
from app.exports.outputs import lock_kept
from app.ids import ArtifactId, WorkerId
from app.problems import Problem

# A worker has one at a time: what it holds when it asks for another, it does not know of, for the answer to
# its claim was lost.
CLAIM = text("""
    WITH next AS (
        SELECT artifact, format FROM conversions
        WHERE state = 'pending' AND not_before <= now() AND (
            worker IS NULL OR worker = :worker
            OR worker IN (SELECT id FROM workers WHERE lease_expires_at < now()))
        ORDER BY requested_at
        LIMIT 1
        FOR UPDATE SKIP LOCKED)
    UPDATE conversions SET worker = :worker, fence = fence + 1,
        failures = failures + (worker IS NOT NULL AND worker <> :worker)::int
    FROM next WHERE (conversions.artifact, conversions.format) = (next.artifact, next.format)
    RETURNING conversions.artifact, conversions.format, conversions.fence, conversions.failures
""")
PUT_BACK = text("""
    UPDATE conversions SET worker = NULL, failures = failures + :failures,
        not_before = now() + make_interval(secs => :seconds)
    WHERE artifact = :artifact AND format = :format AND worker = :worker AND fence = :fence
""")


class ConversionLost(Exception):
    """The conversion is no longer this worker's: it must stop, and nothing was written."""


@dataclass(frozen=True)
class HeldConversion:
    """A conversion as held by one worker, and how often it has failed before."""

    artifact: ArtifactId
    format: Format
    worker: WorkerId
    fence: int
    failures: int


async def claim_conversion(session: AsyncSession, worker: WorkerId) -> HeldConversion | None:
    """Take the one that has waited for longest, if any waits."""
    row = (await session.execute(CLAIM, {"worker": worker})).one_or_none()
    if row is None:
        return None
    return HeldConversion(row.artifact, Format(row.format), worker, row.fence, row.failures)


async def source_of(session: AsyncSession, held: HeldConversion) -> tuple[Artifact, Run] | None:
    """What is to be converted, if it is still kept."""
    if not await lock_kept(session, held.artifact):
        return None
    of_artifact = select(Artifact, Run).join(Run, Run.id == Artifact.run).where(Artifact.id == held.artifact)
    row = (await session.execute(of_artifact)).one()
    return row.Artifact, row.Run


async def converted(session: AsyncSession, held: HeldConversion, files: Sequence[Json]) -> None:
    """The files are stored. Raises `ConversionLost` also when the artifact is no longer kept.

    `files` are the values of `OutputFile`, which is made here, for this may be repeated.
    """
    # The artifact first, as whoever deletes it does.
    kept = await lock_kept(session, held.artifact)
    conversion = await _locked(session, held)
    if conversion.state is ConversionState.READY and conversion.fence == held.fence:
        return  # committed before, and only the answer was lost
    if not kept:
        raise ConversionLost(held.artifact, held.format)
    _check(conversion, held)
    session.add_all(OutputFile(artifact=held.artifact, format=held.format, **file) for file in files)
    await _end(session, held, conversion, ConversionState.READY)


async def conversion_failed(session: AsyncSession, held: HeldConversion, problem: Problem) -> None:
    """There are no such files to be had."""
    conversion = await _locked(session, held)
    if conversion.state is ConversionState.FAILED and conversion.fence == held.fence:
        return
    _check(conversion, held)
    await _end(session, held, conversion, ConversionState.FAILED, problem)


async def put_back(session: AsyncSession, held: HeldConversion, *, seconds: float, failures: int) -> None:
    """Let any worker try again after so many seconds; bears being repeated."""
    await session.execute(
        PUT_BACK,
        {
            "artifact": held.artifact,
            "format": held.format,
            "worker": held.worker,
            "fence": held.fence,
            "seconds": seconds,
            "failures": failures,
        },
    )


async def _locked(session: AsyncSession, held: HeldConversion) -> Conversion:
    conversion = await session.get(
        Conversion, (held.artifact, held.format), with_for_update=True, populate_existing=True
    )
    if conversion is None:
        raise ConversionLost(held.artifact, held.format)
    return conversion


def _check(conversion: Conversion, held: HeldConversion) -> None:
    if (conversion.worker, conversion.fence) != (held.worker, held.fence):
        raise ConversionLost(held.artifact, held.format)


async def _end(
    session: AsyncSession,
    held: HeldConversion,
    conversion: Conversion,
    state: ConversionState,
    problem: Problem | None = None,
) -> None:
    conversion.state, conversion.worker = state, None
    conversion.error = problem.as_error() if problem else None
    conversion.finished_at = func.clock_timestamp()
    failed = state is ConversionState.FAILED
    await record(
        session,
        EventType.ARTIFACT_CONVERSION_FAILED if failed else EventType.ARTIFACT_CONVERTED,
        actor=held.worker,
        run=(await session.get_one(Artifact, held.artifact)).run,
        data={"artifact": held.artifact, "format": held.format} | ({"code": problem.code} if problem else {}),
    )
