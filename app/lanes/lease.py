"""Leases of workers and the fence that every write of a lane's holder carries."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import WorkerId
from app.lanes.claim import HeldLane
from app.metrics import FENCE_REJECTIONS

# Leases are counted by the database's clock alone, so that machines need not agree on the time.
REGISTER = text("""
    INSERT INTO workers (id, name, lease_expires_at)
    VALUES (:id, :name, clock_timestamp() + make_interval(secs => :lease))
    ON CONFLICT (id) DO UPDATE SET lease_expires_at = excluded.lease_expires_at
""")
BEAT = text("""
    UPDATE workers SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease)
    WHERE id = :id AND lease_expires_at > clock_timestamp()
""")
LOCK = text("SELECT FROM lanes WHERE key = :key AND holder = :worker AND fence = :fence FOR UPDATE")
# A statement of its own: the lock may have been waited for, and what was read before it is old by then.
LOOK = text("""
    SELECT lanes.wait_reason, lanes.probes, lanes.next_attempt_at > clock_timestamp() AS parked,
           lanes.paused_at IS NOT NULL AS paused, workers.lease_expires_at > clock_timestamp() AS leased
    FROM lanes JOIN workers ON workers.id = lanes.holder
    WHERE lanes.key = :key
""")

LIVE_WORKERS = text("SELECT count(*) FROM workers WHERE lease_expires_at > now()")


class LeaseLost(Exception):
    """The worker was silent for longer than its lease; its lanes may be served by others."""


class LaneLost(Exception):
    """This worker is no longer the holder of the lane: it must stop, and nothing was written."""


class LaneState:
    """What a held lane is waiting for, read under its lock."""

    def __init__(self, *, probes: int, parked: bool, paused: bool) -> None:
        self.probes = probes
        self.parked = parked
        self.paused = paused


async def register_worker(session: AsyncSession, worker: WorkerId, name: str, lease: float) -> None:
    """Enter a worker with a lease of so many seconds; bears being repeated."""
    await session.execute(REGISTER, {"id": worker, "name": name, "lease": lease})


async def beat(session: AsyncSession, worker: WorkerId, lease: float) -> None:
    """Renew the lease. Raises `LeaseLost` when it had already run out: a lapsed lease is never revived."""
    if not (await session.execute(BEAT, {"id": worker, "lease": lease})).rowcount:  # type: ignore[attr-defined]
        raise LeaseLost(worker)


async def live_workers(session: AsyncSession) -> int:
    """How many workers have a lease now."""
    return int((await session.execute(LIVE_WORKERS)).scalar_one())


async def hold(session: AsyncSession, lane: HeldLane) -> LaneState:
    """Lock the lane for the rest of the transaction, if it is still ours under the same fence and lease.

    Every write for a lane begins with this. Raises `LaneLost` otherwise.
    """
    held = await session.execute(LOCK, {"key": lane.key, "worker": lane.worker, "fence": lane.fence})
    row = (await session.execute(LOOK, {"key": lane.key})).one() if held.first() is not None else None
    if row is None or not row.leased:
        FENCE_REJECTIONS.inc()
        raise LaneLost(lane.key)
    return LaneState(probes=row.probes, parked=row.wait_reason is not None and row.parked, paused=row.paused)
