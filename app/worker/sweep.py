"""The net under everything else: once a minute one worker looks for what should not be."""

import structlog
from sqlalchemy import text

from app.lanes.notifications import LANES, notify
from app.worker.context import Context

# Any number that only we use: it elects the one sweeper.
SWEEPER_LOCK = 0x61657873

ELECT = text("SELECT pg_try_advisory_xact_lock(:lock)")
FLAG_FORGOTTEN_LANES = text("""
    UPDATE lanes SET has_work = true, next_attempt_at = now()
    WHERE NOT has_work AND (
        EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status = 'queued')
        OR EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status IN ('running', 'canceling')))
""")
BURY_WORKERS = text("""
    DELETE FROM workers
    WHERE lease_expires_at < now() - interval '1 hour'
      AND NOT EXISTS (SELECT FROM lanes WHERE holder = workers.id)
      AND NOT EXISTS (SELECT FROM runs WHERE archiver = workers.id)
""")
FORGET_KEYS = text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(days => :days)")

log = structlog.get_logger()


async def sweep(ctx: Context) -> int:
    """Mend lanes that have work but no flag, and throw away what is over; returns how many were mended.

    In health that is none: each one mended is logged as an error, for it points to a fault elsewhere.
    """
    async with ctx.sessions.begin() as session:
        if not await session.scalar(ELECT, {"lock": SWEEPER_LOCK}):
            return 0
        mended: int = (await session.execute(FLAG_FORGOTTEN_LANES)).rowcount  # type: ignore[attr-defined]
        if mended:
            log.error("sweep.lanes_mended", lanes=mended)
            await notify(session, LANES, "")
        await session.execute(BURY_WORKERS)
        await session.execute(FORGET_KEYS, {"days": ctx.settings.idempotency_days})
        return mended
