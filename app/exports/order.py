"""Who goes next in a lane: the one definition, used for choosing and for telling a position.

First the class, which a waiting run leaves for the next one every two hours, so that low never starves;
within a class the earliest `deliver_by`; then the clients in turn; then first come. All of it is kept in
columns, so that one index answers both questions whatever the backlog.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, aliased

from app.access.models import Credential, CredentialState, Priority
from app.exports.models import Export, Run, Status
from app.ids import ClientId, LaneKey, RunId
from app.lanes.models import Lane

CLASS_LASTS = timedelta(hours=2)

PROMOTE = text("""
    WITH due AS (
        SELECT id FROM runs
        WHERE status = 'queued' AND promotes_at <= now()
        ORDER BY promotes_at
        LIMIT :most
        FOR UPDATE SKIP LOCKED)
    UPDATE runs SET rank = rank - 1,
        promotes_at = CASE WHEN rank > 1 THEN promotes_at + make_interval(secs => :seconds) END
    FROM due WHERE runs.id = due.id
""")


@dataclass(frozen=True)
class Place:
    """Where in a lane's order a run is to stand; smaller goes first."""

    rank: int
    due: float
    turn: int


def queue_order(run: type[Run] = Run) -> tuple[InstrumentedAttribute[Any], ...]:
    """The columns by which a lane's queued runs are served."""
    return (run.rank, run.due, run.turn, run.queued_at, run.id)


def ready(
    lane: LaneKey | ColumnElement[LaneKey] | InstrumentedAttribute[LaneKey],
    run: type[Run] = Run,
    *,
    token: CredentialState = CredentialState.VALID,
) -> ColumnElement[bool]:
    """Whether a run of the lane waits for nothing but its turn."""
    holds = select(Credential.id).where(Credential.id == run.credential, Credential.state == token).exists()
    return and_(
        run.lane == lane, run.status == Status.QUEUED, run.not_before <= func.clock_timestamp(), holds
    )


def head(lane: LaneKey) -> Select[Run]:
    """The run that goes next."""
    return select(Run).where(ready(lane)).order_by(*queue_order()).limit(1)


async def count_ahead(session: AsyncSession, run: Run) -> int:
    """How many ready runs of the lane go before a queued run."""
    return await _count_before(session, run.lane, *(getattr(run, column.key) for column in queue_order()))


async def count_ahead_of_place(session: AsyncSession, lane: LaneKey, place: Place) -> int:
    """How many would go before a run that came now."""
    return await _count_before(session, lane, place.rank, place.due, place.turn, func.now(), "")


async def _count_before(session: AsyncSession, lane: LaneKey, *key: Any) -> int:
    before = tuple_(*queue_order()) < tuple_(*key)
    return await session.scalar(select(func.count()).select_from(Run).where(ready(lane), before)) or 0


async def positions(session: AsyncSession, runs: set[RunId]) -> dict[RunId, int]:
    """How many ready runs go before each of several queued ones; each lane is gone through once."""
    other = aliased(Run)
    lanes = select(other.lane).where(other.id.in_(runs)).distinct()
    ahead = (
        func.count()
        .filter(ready(Run.lane))
        .over(partition_by=Run.lane, order_by=queue_order(), rows=(None, -1))
    )
    queue = (
        select(Run.id, ahead.label("ahead"))
        .where(Run.lane.in_(lanes), Run.status == Status.QUEUED)
        .subquery()
    )
    rows = await session.execute(select(queue).where(queue.c.id.in_(runs)))
    return {row.id: row.ahead for row in rows}


async def place_for(
    session: AsyncSession, lane: LaneKey, client: ClientId, priority: Priority, deliver_by: datetime | None
) -> Place:
    """Where a new run of the client would stand: its turn comes after its own and the one served last."""
    own = select(func.max(Run.turn)).where(
        Run.lane == lane, Run.client == client, Run.status == Status.QUEUED, Run.rank == priority.rank
    )
    served = select(Lane.turn).where(Lane.key == lane)
    last = select(func.greatest(own.scalar_subquery(), served.scalar_subquery(), 0))
    turn = (await session.execute(last)).scalar_one() + 1
    return Place(priority.rank, deliver_by.timestamp() if deliver_by else math.inf, turn)


def stand(run: Run, members: Iterable[Export], now: datetime) -> None:
    """Give a queued run the highest class and the earliest deadline of its members, and the classes that it
    has risen by waiting."""
    wishes = [(export.priority.rank, export.deliver_by) for export in members]
    risen = max(now - run.queued_at, timedelta()) // CLASS_LASTS
    run.rank = max(0, min(rank for rank, _ in wishes) - risen)
    run.promotes_at = run.queued_at + (risen + 1) * CLASS_LASTS if run.rank else None
    run.due = min(deadline.timestamp() if deadline else math.inf for _, deadline in wishes)


async def promote(session: AsyncSession, most: int) -> int:
    """Let runs that have waited out their class rise to the next; returns how many."""
    values = {"most": most, "seconds": CLASS_LASTS.total_seconds()}
    return (await session.execute(PROMOTE, values)).rowcount  # type: ignore[attr-defined,no-any-return]
