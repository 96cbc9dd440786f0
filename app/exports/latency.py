"""Where an export's time has gone: every microsecond belongs to one cause."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.exports.models import Export, Status
from app.ids import LaneKey
from app.lanes.models import LaneWait, WaitReason

MICROSECOND = timedelta(microseconds=1)
# What a wait of the lane as a whole counts as; waiting behind others is all that is left.
CAUSES = {
    WaitReason.UPSTREAM_SLOT_BUSY: "external",
    WaitReason.RATE_LIMITED: "backoff",
    WaitReason.LANE_PAUSED: "paused",
    WaitReason.CREDENTIAL_INVALID: "paused",
}
WAITS = select(LaneWait).where(
    LaneWait.lane.in_(bindparam("lanes", expanding=True)),
    or_(LaneWait.until.is_(None), LaneWait.until > bindparam("since")),
)
NOW = select(func.clock_timestamp())
STAGES = {Status.RUNNING: "run", Status.CANCELING: "run", Status.ARCHIVING: "archive"}


@dataclass(frozen=True)
class Latency:
    """Milliseconds by cause; the parts add up to the total."""

    total_ms: int
    behind_others_ms: int
    external_ms: int
    backoff_ms: int
    paused_ms: int
    run_ms: int
    archive_ms: int


async def lane_waits(session: AsyncSession, lanes: Iterable[LaneKey], since: datetime) -> Sequence[LaneWait]:
    """The times since a moment in which these lanes waited as a whole."""
    return (await session.scalars(WAITS, {"lanes": list(lanes), "since": since})).all()


def settle(export: Export, waits: Iterable[LaneWait], held_back_until: datetime, now: datetime) -> None:
    """Enter the time since the last change of status under its causes; a new stage begins now."""
    for cause, spent in _since_last_change(export, waits, held_back_until, now).items():
        setattr(export, f"{cause}_us", getattr(export, f"{cause}_us") + spent)
    export.phase_since = now


def latency(export: Export, waits: Iterable[LaneWait], held_back_until: datetime, now: datetime) -> Latency:
    """The time from the request until its end, or until now, by cause."""
    until = export.finished_at or now
    open_stage = _since_last_change(export, waits, held_back_until, until)
    parts = {
        cause: (getattr(export, f"{cause}_us") + open_stage[cause]) // 1000
        for cause in ("external", "backoff", "paused", "run", "archive")
    }
    total = (until - export.created_at) // MICROSECOND // 1000
    return Latency(
        total_ms=total,
        behind_others_ms=total - sum(parts.values()),
        **{f"{cause}_ms": spent for cause, spent in parts.items()},
    )


def _since_last_change(
    export: Export, waits: Iterable[LaneWait], held_back_until: datetime, now: datetime
) -> Counter[str]:
    """Microseconds by cause; a queued export's own backoff is what the waits of its lane leave of it."""
    since, spent = export.phase_since, Counter[str]()
    if stage := STAGES.get(export.status):
        spent[stage] = _overlap(since, now, since, now)
    elif export.status is Status.QUEUED:
        for wait in waits:
            if wait.lane == export.lane and (cause := CAUSES.get(wait.reason)):
                spent[cause] += _overlap(since, now, wait.since, wait.until or now)
        rest = _overlap(since, now, since, now) - spent.total()
        spent["backoff"] += max(0, min(rest, _overlap(since, now, since, held_back_until)))
    return spent


def _overlap(since: datetime, until: datetime, other_since: datetime, other_until: datetime) -> int:
    return max(timedelta(), min(until, other_until) - max(since, other_since)) // MICROSECOND


async def database_now(session: AsyncSession) -> datetime:
    """The moment, by the clock that all others of an export are told by."""
    now: datetime = (await session.execute(NOW)).scalar_one()
    return now
