"""Giving a lane back, letting it wait as a whole, and handing over all lanes of a worker."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.ids import WorkerId
from app.lanes.claim import HeldLane
from app.lanes.models import WaitReason
from app.lanes.notifications import LANES, notify

# A statement of its own, after the lane row was locked: in one statement READ COMMITTED would look again at
# the row it waited for, but not at the subquery, and work queued meanwhile would be lost.
SOONEST = text("SELECT min(not_before) FROM runs WHERE lane = :key AND status = 'queued'")
# A reason whose time is over is taken away: it would keep new work from waking the lane.
RELEASE = text("""
    UPDATE lanes SET holder = NULL, has_work = true,
        wait_reason = CASE WHEN next_attempt_at > now() THEN wait_reason END,
        next_attempt_at = greatest(
            CASE WHEN wait_reason IS NOT NULL AND next_attempt_at > now() THEN next_attempt_at ELSE now() END,
            :soonest)
    WHERE key = :key AND fence = :fence
""")
RELEASE_PAUSED = text("""
    UPDATE lanes SET holder = NULL, has_work = false, next_attempt_at = now()
    WHERE key = :key AND fence = :fence
""")
# An empty lane waits for nothing: what blocked its last run must not keep the next one from being tried.
RELEASE_EMPTY = text("""
    UPDATE lanes SET holder = NULL, has_work = false, next_attempt_at = now(), wait_reason = NULL, probes = 0
    WHERE key = :key AND fence = :fence
""")
PARK = text("""
    UPDATE lanes SET wait_reason = :reason, probes = :probes,
        next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
    WHERE key = :key AND fence = :fence
""")
TAKE_TURN = text("""
    UPDATE lanes SET turns[:class] = :turn WHERE key = :key AND fence = :fence AND turns[:class] < :turn
""")
UNPARK = text("""
    UPDATE lanes SET wait_reason = NULL, probes = 0
    WHERE key = :key AND fence = :fence AND (wait_reason IS NOT NULL OR probes > 0)
""")
DISOWN = text("""
    UPDATE lanes SET holder = NULL, next_attempt_at = now()
    WHERE holder = :worker AND NOT EXISTS (
        SELECT FROM unnest(CAST(:keys AS text[]), CAST(:fences AS bigint[])) AS kept (key, fence)
        WHERE kept.key = lanes.key AND kept.fence = lanes.fence)
""")
HAND_OVER = text("UPDATE lanes SET holder = NULL, next_attempt_at = now() WHERE holder = :worker")
FORGET = text("DELETE FROM workers WHERE id = :worker")


async def release(session: AsyncSession, lane: HeldLane, *, paused: bool = False) -> None:
    """Give back a lane that has nothing to do now. The caller has locked it by `hold`."""
    soonest = (await session.execute(SOONEST, {"key": lane.key})).scalar_one()
    if paused:
        await session.execute(RELEASE_PAUSED, {"key": lane.key, "fence": lane.fence})
    elif soonest is None:
        await session.execute(RELEASE_EMPTY, {"key": lane.key, "fence": lane.fence})
    else:
        await session.execute(RELEASE, {"key": lane.key, "fence": lane.fence, "soonest": soonest})


async def park(
    session: AsyncSession, lane: HeldLane, reason: WaitReason, seconds: float, *, probes: int = 0
) -> None:
    """Let the whole lane wait. It stays held until its holder finds that there is nothing to do."""
    await session.execute(
        PARK, {"key": lane.key, "fence": lane.fence, "reason": reason, "seconds": seconds, "probes": probes}
    )


async def take_turn(session: AsyncSession, lane: HeldLane, rank: int, turn: int) -> None:
    """Note the turn of the run that is started: who comes next into its class gets turns from there on."""
    # PostgreSQL counts from 1.
    values = {"key": lane.key, "fence": lane.fence, "class": rank + 1, "turn": turn}
    await session.execute(TAKE_TURN, values)


async def unpark(session: AsyncSession, lane: HeldLane) -> None:
    """The lane's head got through: nothing holds the lane as a whole any more."""
    await session.execute(UNPARK, {"key": lane.key, "fence": lane.fence})


async def disown(session: AsyncSession, worker: WorkerId, keep: Sequence[HeldLane]) -> int:
    """Free the lanes a worker holds without knowing it: its claim was committed, but the answer was lost."""
    kept = {"keys": [lane.key for lane in keep], "fences": [lane.fence for lane in keep]}
    return (await session.execute(DISOWN, {"worker": worker, **kept})).rowcount  # type: ignore[attr-defined,no-any-return]


async def hand_over(session: AsyncSession, worker: WorkerId) -> None:
    """Free all lanes of a worker that is leaving, and its name; their runs stay as they are."""
    await session.execute(HAND_OVER, {"worker": worker})
    await session.execute(FORGET, {"worker": worker})
    await notify(session, LANES, "")
