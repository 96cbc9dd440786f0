"""How the whole service stands, for those who watch over it: read from the database when it is asked for."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import EVERYBODY
from app.exports.attention import AttentionKind, attention
from app.exports.estimates import hit_ratio
from app.lanes.lease import live_workers
from app.lanes.models import WaitReason

# What an administrator has said comes first, then what is in the slot, then what the lane waits for.
LANES = text("""
    SELECT CASE
            WHEN paused_at IS NOT NULL THEN 'paused'
            WHEN draining_at IS NOT NULL THEN 'draining'
            WHEN EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status IN ('running', 'canceling'))
                THEN 'running'
            WHEN wait_reason IS NOT NULL THEN wait_reason
            WHEN EXISTS (SELECT FROM runs WHERE lane = lanes.key AND status = 'queued') THEN 'queued'
            ELSE 'idle' END AS state,
        count(*) AS lanes
    FROM lanes GROUP BY state
""")
LANE_STATES = (
    "idle",
    "queued",
    "running",
    "paused",
    "draining",
    WaitReason.UPSTREAM_SLOT_BUSY,
    WaitReason.RATE_LIMITED,
    WaitReason.CREDENTIAL_INVALID,
)
QUEUE = text("""
    SELECT count(*) AS runs, extract(epoch FROM now() - min(queued_at))::float AS oldest
    FROM runs WHERE status = 'queued'
""")
# Lanes that a worker could take, or whose worker is dead.
UNSERVED = text("""
    SELECT extract(epoch FROM now() - least(
        (SELECT min(next_attempt_at) FROM lanes
         WHERE has_work AND holder IS NULL AND next_attempt_at <= now()),
        (SELECT min(lease_expires_at) FROM lanes JOIN workers ON workers.id = lanes.holder
         WHERE lease_expires_at < now())))::float
""")


@dataclass(frozen=True)
class Measures:
    """`slot_idle_seconds`: for how long the lane that has waited longest for a worker could have been served.
    `eta_p90_hit_ratio`: see `hit_ratio`.
    """

    workers: int
    lanes: Mapping[str, int]
    queued: int
    queue_oldest_seconds: float
    slot_idle_seconds: float
    attention: Mapping[str, int]
    eta_p90_hit_ratio: float | None


async def measures(session: AsyncSession, attention_seconds: float) -> Measures:
    """As of now; states and kinds that nothing is in are told as 0."""
    lanes = {row.state: row.lanes for row in await session.execute(LANES)}
    queue = (await session.execute(QUEUE)).one()
    items = await attention(session, EVERYBODY, attention_seconds)
    kinds = Counter(item.kind for item in items if item.acknowledged is None)
    return Measures(
        workers=await live_workers(session),
        lanes=dict.fromkeys(LANE_STATES, 0) | lanes,
        queued=queue.runs,
        queue_oldest_seconds=queue.oldest or 0.0,
        slot_idle_seconds=await session.scalar(UNSERVED) or 0.0,
        attention={kind: kinds[kind] for kind in AttentionKind},
        eta_p90_hit_ratio=await hit_ratio(session),
    )
