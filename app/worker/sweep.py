"""The net under everything else: once a minute one worker looks for what should not be."""

from datetime import timedelta

import structlog
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Credential
from app.database.session import elected
from app.events.placing import place_events
from app.exports.models import Run, Status
from app.exports.states import change, locked_run
from app.ids import RunId
from app.lanes.enqueue import lock_lane
from app.lanes.notifications import LANES, notify
from app.metrics import REPAIRS, once_committed
from app.problems import Code, Problem
from app.worker.context import Context

# Any number that only we use.
SWEEPER_DUTY = 0x61657873
PARTIAL_FILES_SECONDS = 86_400.0
GIVEN_UP_AT_ONCE = 100

FLAG_FORGOTTEN_LANES = text("""
    UPDATE lanes SET has_work = true, next_attempt_at = now()
    WHERE NOT has_work AND (
        paused_at IS NULL AND EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status = 'queued')
        OR EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status IN ('running', 'canceling')))
""")
BURY_WORKERS = text("""
    DELETE FROM workers
    WHERE lease_expires_at < now() - interval '1 hour'
      AND NOT EXISTS (SELECT FROM lanes WHERE holder = workers.id)
      AND NOT EXISTS (SELECT FROM runs WHERE archiver = workers.id)
""")
# A queued export still counts its time by them.
FORGET_WAITS = text("""
    DELETE FROM lane_waits WHERE id IN (
        SELECT id FROM lane_waits
        WHERE until < now() - interval '7 days' AND (blocked_at IS NULL OR unblocked_at IS NOT NULL)
          AND NOT EXISTS (
            SELECT FROM exports
            WHERE exports.lane = lane_waits.lane AND status = 'queued' AND phase_since < until)
        LIMIT 1000)
""")
FORGET_KEYS = text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days)")

log = structlog.get_logger()


async def sweep(ctx: Context) -> int:
    """Mend lanes that have work but no flag, and throw away what is over; returns how many were mended.

    Events are placed, so that whoever begins to read after months without readers is answered at once.

    In health that is none: each one mended is logged as an error, for it points to a fault elsewhere.
    """
    mended = await ctx.write(_tidy_up, ctx.settings.idempotency_days)
    if mended is None:
        return 0
    while await ctx.write(place_events):
        pass
    for run in await ctx.write(_beyond_repair, ctx.settings.credential_repair_seconds):
        await ctx.write(_give_up, run, ctx.lease.worker)
    if left := await ctx.store.sweep(PARTIAL_FILES_SECONDS):
        log.info("sweep.partial_files_removed", files=left)
    return mended


async def _tidy_up(session: AsyncSession, idempotency_days: int) -> int | None:
    """None when another worker is the sweeper just now."""
    if not await elected(session, SWEEPER_DUTY):
        return None
    mended: int = (await session.execute(FLAG_FORGOTTEN_LANES)).rowcount  # type: ignore[attr-defined]
    if mended:
        log.error("sweep.lanes_mended", lanes=mended)
        once_committed(session, lambda: REPAIRS.labels("lane").inc(mended))
        await notify(session, LANES, "")
    await session.execute(BURY_WORKERS)
    await session.execute(FORGET_WAITS)
    await session.execute(FORGET_KEYS, {"days": idempotency_days})
    return mended


async def _beyond_repair(session: AsyncSession, seconds: float) -> list[RunId]:
    """Some queued runs whose token has been invalid for longer than it may take to replace it."""
    over = func.now() - timedelta(seconds=seconds)
    abandoned = select(Credential.id).where(Credential.invalid_since < over)
    runs = select(Run.id).where(Run.status == Status.QUEUED, Run.credential.in_(abandoned))
    return list(await session.scalars(runs.order_by(Run.id).limit(GIVEN_UP_AT_ONCE)))


async def _give_up(session: AsyncSession, run_id: RunId, actor: str) -> None:
    lane = await session.scalar(select(Run.lane).where(Run.id == run_id))
    if lane is None:
        return
    await lock_lane(session, lane)
    run = await locked_run(session, run_id)
    if run.status is Status.QUEUED:
        problem = Problem(Code.CREDENTIAL_REVOKED, "The token stayed invalid and was not replaced in time.")
        await change(session, run, Status.FAILED, actor=actor, problem=problem)
