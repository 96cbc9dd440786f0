"""What a worker does to a run, each step under the fence by which it holds the lane or the archiving."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.artifacts.models import Artifact
from app.exports.drift import tell_of_drift
from app.exports.keeping import keep_as_wished
from app.exports.models import Phase, Run, Status
from app.exports.order import head, until_another_try, waits_for_a_token
from app.exports.states import LIVE, change, locked_run, seen_running
from app.ids import RunId, WorkerId
from app.lanes.claim import HeldLane
from app.lanes.lease import LaneLost, hold
from app.lanes.models import WaitReason
from app.lanes.notifications import LANES, notify
from app.lanes.release import park, release, take_turn, unpark
from app.metrics import ARCHIVED_BYTES, FENCE_REJECTIONS, once_committed
from app.problems import Problem

# A suspect had its file in the hands of a worker that vanished.
CLAIM_ARCHIVES = text("""
    WITH orphans AS (
        SELECT id FROM runs
        WHERE status = 'archiving' AND (
            archiver IS NULL OR archiver IN (SELECT id FROM workers WHERE lease_expires_at < now()))
          AND (archiver IS NOT NULL OR lost_archivers <> '{}') = :suspect
        ORDER BY id
        LIMIT :most
        FOR UPDATE SKIP LOCKED)
    UPDATE runs SET archiver = :worker, archive_fence = archive_fence + 1,
        lost_archivers = CASE WHEN archiver IS NULL THEN lost_archivers ELSE lost_archivers || archiver END
    FROM orphans WHERE runs.id = orphans.id
    RETURNING runs.id, runs.archive_fence, cardinality(lost_archivers) AS lost
""")
DISOWN_ARCHIVES = text("UPDATE runs SET archiver = NULL WHERE archiver = :worker AND NOT id = ANY(:keep)")
CLEAR_OF_SUSPICION = text("""
    UPDATE runs SET lost_archivers = array_remove(lost_archivers, :worker)
    WHERE status = 'archiving' AND :worker = ANY(lost_archivers)
""")
IN_FLIGHT = (
    select(Run)
    .where(Run.lane == bindparam("lane"), Run.status.in_(LIVE))
    .with_for_update()
    .execution_options(populate_existing=True)
)
LET_GO_OF_CONVERSIONS = text("UPDATE conversions SET worker = NULL WHERE worker = :worker")
LET_GO_OF_REFETCHES = text("UPDATE refetches SET worker = NULL WHERE worker = :worker")


@dataclass(frozen=True)
class HeldArchive:
    """The archiving of one run as held by one worker, and how many workers it was lost with before."""

    run: RunId
    worker: WorkerId
    fence: int
    lost: int = 0


async def next_run(session: AsyncSession, lane: HeldLane, *, credential_wait: float) -> Run | None:
    """The run to work on: the one in flight first, else the head of the queue, which takes the slot.

    With nothing to do now the lane is released and None returned. Where all that is queued has a token known
    to be invalid, the lane waits for `credential_wait` seconds, or until the token is replaced or another run
    may be tried again.
    """
    state = await hold(session, lane)
    flying = await run_in_flight(session, lane)
    if flying and not await _unwanted(session, lane, flying):
        if flying.phase is Phase.SUBMITTING:
            # Somebody was about to ask Asana, and whether that happened is not known here.
            await change(session, flying, flying.status, actor=lane.worker, phase=Phase.SUBMIT_UNKNOWN)
        return flying
    free = not (state.parked or state.paused)
    first = await head(session, lane.key) if free else None
    if first is None:
        if free and await waits_for_a_token(session, lane.key):
            another = await until_another_try(session, lane.key)
            seconds = credential_wait if another is None else max(0.0, min(credential_wait, another))
            await park(session, lane, WaitReason.CREDENTIAL_INVALID, seconds)
        await release(session, lane, paused=state.paused)
        return None
    await begin(session, lane, first, quietly=state.probes > 0)
    return first


async def begin(
    session: AsyncSession, lane: HeldLane, run: Run, *, quietly: bool, out_of_turn: bool = False
) -> None:
    """Give the slot to a queued run; `quietly` where this is only to see whether Asana takes it."""
    # By a deadline it jumps the turns of others, who must not fall behind for that.
    if math.isinf(run.due) and not out_of_turn:
        await take_turn(session, lane, run.rank, run.turn)
    await change(session, run, Status.RUNNING, actor=lane.worker, phase=Phase.SUBMITTING, quietly=quietly)


async def run_in_flight(session: AsyncSession, lane: HeldLane) -> Run | None:
    """The run that holds the slot, its row locked."""
    run: Run | None = await session.scalar(IN_FLIGHT, {"lane": lane.key})
    return run


async def _unwanted(session: AsyncSession, lane: HeldLane, run: Run) -> bool:
    """Whether nobody waits for the run any more and no job of it is known: then it leaves the slot."""
    if run.status is not Status.CANCELING or run.asana_job:
        return False
    await change(session, run, Status.CANCELED, actor=lane.worker)
    return True


async def about_to_submit(session: AsyncSession, lane: HeldLane, run_id: RunId, phase: Phase) -> bool:
    """Before asking Asana, if a while has passed: the lane must still be ours, and the phase is as told.

    From then on the callers see it running. False when it was canceled or the lane paused meanwhile: it has
    left the slot.
    """
    state = await hold(session, lane)
    run = await locked_run(session, run_id)
    if await _unwanted(session, lane, run) or run.status is not Status.RUNNING:
        return False
    if state.paused and run.phase is phase is Phase.SUBMITTING:
        await leave_slot(session, lane, run, Status.QUEUED, quietly=not await seen_running(session, run))
        return False
    if run.phase is not phase or not await seen_running(session, run):
        await change(session, run, run.status, actor=lane.worker, phase=phase)
    return True


async def submitted(
    session: AsyncSession, lane: HeldLane, run_id: RunId, job: str, export: str | None
) -> Run:
    """Asana has accepted the run as a job; the lane's way is clear again."""
    await hold(session, lane)
    run = await locked_run(session, run_id)
    await unpark(session, lane)
    await change(
        session,
        run,
        run.status,
        actor=lane.worker,
        phase=Phase.POLLING,
        asana_job=job,
        asana_export=export,
        submitted_at=func.clock_timestamp(),
    )
    return run


async def put_back(
    session: AsyncSession, lane: HeldLane, run_id: RunId, reason: WaitReason, seconds: float | None = None
) -> None:
    """Asana did not take the run: it keeps its place and its attempt.

    The lane waits as a whole for so many seconds; for an invalid token it does not, for others in its queue
    may have another one.
    """
    state = await hold(session, lane)
    run = await locked_run(session, run_id)
    await leave_slot(session, lane, run, Status.QUEUED, wait_reason=reason)
    if seconds is not None:
        # A limit met while probing changes nothing of what the probes have found.
        lane_reason = WaitReason.UPSTREAM_SLOT_BUSY if state.probes else reason
        await park(session, lane, lane_reason, seconds, probes=state.probes)


async def waits_for_token(
    session: AsyncSession, lane: HeldLane, run_id: RunId, reason: WaitReason | None
) -> None:
    """The poll of a job is held up (or no longer) by its token; the slot is kept, since Asana goes on."""
    await hold(session, lane)
    run = await locked_run(session, run_id)
    if run.wait_reason is not reason:
        await change(session, run, run.status, actor=lane.worker, phase=run.phase, wait_reason=reason)


async def fail_run(session: AsyncSession, lane: HeldLane, run_id: RunId, problem: Problem) -> None:
    """The run in the slot has failed for good; the slot is free."""
    await hold(session, lane)
    run = await locked_run(session, run_id)
    await leave_slot(session, lane, run, Status.FAILED, problem=problem, slot_freed_at=func.clock_timestamp())


async def try_again_later(session: AsyncSession, lane: HeldLane, run_id: RunId, seconds: float) -> None:
    """The run goes back to the queue for another attempt; only it waits, the lane moves on at once."""
    await hold(session, lane)
    run = await locked_run(session, run_id)
    await leave_slot(
        session,
        lane,
        run,
        Status.QUEUED,
        wait_reason=WaitReason.BACKOFF,
        attempt=run.attempt + 1,
        not_before=func.clock_timestamp() + timedelta(seconds=seconds),
        asana_job=None,
        asana_export=None,
        submitted_at=None,
    )


async def free_slot(
    session: AsyncSession,
    lane: HeldLane,
    run_id: RunId,
    *,
    data_from: datetime | None,
    data_to: datetime | None,
    warnings: list[dict[str, str]],
    archive_here: bool,
) -> HeldArchive | None:
    """Asana is done: the slot is free for the next run, and the file is archived if it is still wanted.

    By this worker if it is to be, else by any that has room.
    """
    await hold(session, lane)
    run = await locked_run(session, run_id)
    await leave_slot(
        session,
        lane,
        run,
        Status.ARCHIVING,
        data_from=data_from,
        data_to=data_to,
        warnings=run.warnings + warnings,
        slot_freed_at=func.clock_timestamp(),
        archiver=lane.worker if archive_here else None,
        archive_fence=run.archive_fence + archive_here,
    )
    if run.status is not Status.ARCHIVING:
        return None
    if run.archiver is None:
        await notify(session, LANES, "")
    return HeldArchive(run.id, lane.worker, run.archive_fence) if run.archiver == lane.worker else None


async def leave_slot(session: AsyncSession, lane: HeldLane, run: Run, to: Status, **columns: Any) -> None:
    """Go where the end of the work in the slot leads; for a run that nobody wants any more, out.

    One that is no longer in the slot has left it before: that was committed, and only the answer was lost.
    """
    if run.status is Status.CANCELING:
        await change(session, run, Status.CANCELED, actor=lane.worker)
    elif run.status is Status.RUNNING:
        await change(session, run, to, actor=lane.worker, **columns)


async def claim_archives(
    session: AsyncSession, worker: WorkerId, most: int, *, suspect: bool
) -> list[HeldArchive]:
    """Take up to `most` runs that wait for somebody to fetch their file.

    Either those that were never lost with a worker, or the others. A worker should have but one of these at a
    time: then the one that kills it is found, and does not take others along.
    """
    rows = await session.execute(CLAIM_ARCHIVES, {"worker": worker, "most": most, "suspect": suspect})
    return [HeldArchive(row.id, worker, row.archive_fence, row.lost) for row in rows]


async def survived(session: AsyncSession, worker: WorkerId) -> None:
    """The process of this name had only lost its lease: no file has killed it, nor has a conversion."""
    await session.execute(DISOWN_ARCHIVES, {"worker": worker, "keep": []})
    await session.execute(CLEAR_OF_SUSPICION, {"worker": worker})
    await session.execute(LET_GO_OF_CONVERSIONS, {"worker": worker})
    await session.execute(LET_GO_OF_REFETCHES, {"worker": worker})


async def disown_archives(session: AsyncSession, worker: WorkerId, keep: list[RunId]) -> None:
    """Let others archive what this worker has taken without knowing it, the answer having been lost."""
    await session.execute(DISOWN_ARCHIVES, {"worker": worker, "keep": keep})


async def hold_archive(session: AsyncSession, archive: HeldArchive) -> Run:
    """Lock the run if its archiving is still ours. Raises `LaneLost` otherwise."""
    run = await locked_run(session, archive.run)
    if (run.status, run.archiver, run.archive_fence) != (Status.ARCHIVING, archive.worker, archive.fence):
        FENCE_REJECTIONS.inc()
        raise LaneLost(archive.run)
    return run


async def archived(
    session: AsyncSession,
    archive: HeldArchive,
    artifact: Artifact,
    warnings: list[dict[str, str]],
) -> None:
    """The file is stored and verified: the run has succeeded."""
    # The lock first: our own first try may be about to commit.
    await locked_run(session, archive.run)
    if await session.scalar(select(Artifact.id).where(Artifact.key == artifact.key)):
        return  # committed before, and only the answer was lost
    run = await hold_archive(session, archive)
    await tell_of_drift(session, run, artifact, actor=archive.worker)
    session.add(artifact)
    await change(
        session,
        run,
        Status.SUCCEEDED,
        actor=archive.worker,
        warnings=run.warnings + warnings,
    )
    once_committed(session, lambda: ARCHIVED_BYTES.inc(artifact.bytes))
    await keep_as_wished(session, artifact.id)


async def archive_waits(session: AsyncSession, archive: HeldArchive, reason: WaitReason) -> None:
    """The file cannot be fetched or kept just now; trying has killed nobody."""
    run = await hold_archive(session, archive)
    run.lost_archivers = []
    if run.wait_reason is not reason:
        await change(session, run, run.status, actor=archive.worker, wait_reason=reason)


async def archive_failed(session: AsyncSession, archive: HeldArchive, problem: Problem) -> None:
    """There is no file to be had that passes verification."""
    run = await hold_archive(session, archive)
    await change(session, run, Status.FAILED, actor=archive.worker, problem=problem)


async def seconds_in_progress(session: AsyncSession, run: Run) -> float:
    """Since Asana accepted the run, by the database's clock."""
    since = select(func.extract("epoch", func.clock_timestamp() - Run.submitted_at)).where(Run.id == run.id)
    return float(await session.scalar(since) or 0.0)


async def past_durations(session: AsyncSession, run: Run, most: int = 20) -> list[float]:
    """Seconds that the latest runs of the workspace and kind were in progress at Asana, shortest first."""
    seconds = func.extract("epoch", Run.slot_freed_at - Run.submitted_at)
    rows = await session.scalars(
        select(seconds)
        .where(
            Run.workspace == run.workspace,
            Run.kind == run.kind,
            Run.status == Status.SUCCEEDED,
        )
        .order_by(Run.slot_freed_at.desc())
        .limit(most)
    )
    return sorted(float(value) for value in rows)
