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

from sqlalchemy import ColumnElement, and_, bindparam, case, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.access.models import Credential, CredentialState, Priority
from app.database.base import BigInt
from app.exports.models import Export, Run, Status
from app.exports.states import FINAL
from app.ids import ClientId, LaneKey, RunId
from app.lanes.models import Lane
from app.lanes.notifications import notify_change

CLASS_LASTS = timedelta(hours=2)


@dataclass(frozen=True)
class Place:
    """Where in a lane's order a run stands; smaller goes first."""

    rank: int
    due: float
    turn: int


# The columns by which a lane's queued runs are served.
ORDER: tuple[InstrumentedAttribute[Any], ...] = (Run.rank, Run.due, Run.turn, Run.queued_at, Run.id)


def _queued(token: CredentialState) -> ColumnElement[bool]:
    holds = select(Credential.id).where(Credential.id == Run.credential, Credential.state == token).exists()
    return and_(Run.status == Status.QUEUED, holds)


def _ready(token: CredentialState) -> ColumnElement[bool]:
    """Whether a run waits for nothing but its turn."""
    return and_(_queued(token), Run.not_before <= func.clock_timestamp())


READY = _ready(CredentialState.VALID)
IN_LANE = Run.lane == bindparam("lane")

HEAD = select(Run).where(IN_LANE, READY).order_by(*ORDER).limit(1).with_for_update(of=Run)
WAITING_FOR_A_TOKEN = select(Run.id).where(IN_LANE, _ready(CredentialState.INVALID)).limit(1)
UNTIL_ANOTHER_TRY = select(func.extract("epoch", func.min(Run.not_before) - func.clock_timestamp())).where(
    IN_LANE, _queued(CredentialState.VALID)
)
COUNT_BEFORE = (
    select(func.count())
    .select_from(Run)
    .where(
        IN_LANE,
        READY,
        tuple_(*ORDER) < tuple_(*(bindparam(column.key, type_=column.type) for column in ORDER)),
    )
)
# Each lane is gone through once, however many of its runs are asked for.
POSITIONS = (
    select(
        Run.id,
        func.count()
        .filter(READY)
        .over(partition_by=Run.lane, order_by=ORDER, rows=(None, -1))
        .label("ahead"),
    )
    .where(Run.lane.in_(bindparam("lanes", expanding=True)), Run.status == Status.QUEUED)
    .subquery()
)
POSITIONS_OF = select(POSITIONS).where(POSITIONS.c.id.in_(bindparam("runs", expanding=True)))
# The last turn of the class: among the client's own queued runs, and the one served last.
LAST_TURN = select(
    func.greatest(
        select(func.max(Run.turn))
        .where(
            IN_LANE,
            Run.client == bindparam("client"),
            Run.status == Status.QUEUED,
            Run.rank == bindparam("rank"),
        )
        .scalar_subquery(),
        select(Lane.turns[bindparam("rank") + 1]).where(Lane.key == bindparam("lane")).scalar_subquery(),
        0,
    )
)
WISHES = select(
    func.min(case({priority: priority.rank for priority in Priority}, value=Export.priority)),
    func.min(Export.deliver_by),
).where(Export.run == bindparam("run"), Export.status.not_in(FINAL))
# In its new class it is dealt a turn from the one served last there, after what its client asked for before:
# not behind what it asked for later, and not all of a client's before those of others.
PROMOTE = text("""
    WITH due AS (
        SELECT id FROM runs
        WHERE status = 'queued' AND promotes_at <= now()
        ORDER BY promotes_at
        LIMIT :most
        FOR UPDATE SKIP LOCKED),
    risen AS (
        SELECT id, row_number() OVER (PARTITION BY lane, client, rank ORDER BY turn, queued_at, id) AS nth,
            (SELECT turns[runs.rank] FROM lanes WHERE key = runs.lane) AS last,
            (SELECT count(*) FROM runs AS own
             WHERE own.lane = runs.lane AND own.client = runs.client AND own.status = 'queued'
               AND own.rank = runs.rank - 1 AND own.queued_at < runs.queued_at) AS older
        FROM runs JOIN due USING (id))
    UPDATE runs SET rank = rank - 1, turn = last + older + nth,
        promotes_at = CASE WHEN rank > 1 THEN promotes_at + make_interval(secs => :seconds) END
    FROM risen WHERE runs.id = risen.id
    RETURNING runs.lane
""")


async def head(session: AsyncSession, lane: LaneKey) -> Run | None:
    """The run that goes next, its row locked."""
    run: Run | None = await session.scalar(HEAD, {"lane": lane})
    return run


async def waits_for_a_token(session: AsyncSession, lane: LaneKey) -> bool:
    """Whether a run would go next if its token were valid."""
    return await session.scalar(WAITING_FOR_A_TOKEN, {"lane": lane}) is not None


async def until_another_try(session: AsyncSession, lane: LaneKey) -> float | None:
    """Seconds until the first run with a valid token may be tried again; None if there is none."""
    seconds = await session.scalar(UNTIL_ANOTHER_TRY, {"lane": lane})
    return None if seconds is None else float(seconds)


async def count_ahead(session: AsyncSession, run: Run) -> int:
    """How many ready runs of the lane go before a queued run."""
    key = {column.key: getattr(run, column.key) for column in ORDER}
    return await session.scalar(COUNT_BEFORE, {"lane": run.lane, **key}) or 0


async def count_ahead_of_place(session: AsyncSession, lane: LaneKey, place: Place, now: datetime) -> int:
    """How many would go before a run that came now."""
    key = {"rank": place.rank, "due": place.due, "turn": place.turn, "queued_at": now, "id": ""}
    return await session.scalar(COUNT_BEFORE, {"lane": lane, **key}) or 0


async def positions(session: AsyncSession, runs: Iterable[Run]) -> dict[RunId, int]:
    """How many ready runs go before each of several queued ones."""
    asked = list(runs)
    if len(asked) == 1:
        return {asked[0].id: await count_ahead(session, asked[0])}
    lanes, ids = [run.lane for run in asked], [run.id for run in asked]
    rows = await session.execute(POSITIONS_OF, {"lanes": lanes, "runs": ids}) if asked else ()
    return {row.id: row.ahead for row in rows}


async def place_for(
    session: AsyncSession, lane: LaneKey, client: ClientId, priority: Priority, deliver_by: datetime | None
) -> Place:
    """Where a new run of the client would stand: its turn comes after its own and the one served last."""
    turn = await _next_turn(session, lane, client, priority.rank)
    return Place(priority.rank, deliver_by.timestamp() if deliver_by else math.inf, turn)


async def _next_turn(session: AsyncSession, lane: LaneKey, client: ClientId, rank: int) -> int:
    last: int = (
        await session.execute(LAST_TURN, {"lane": lane, "client": client, "rank": rank})
    ).scalar_one()
    return last + 1


async def stand(session: AsyncSession, run: Run, now: datetime) -> None:
    """Give a queued run the highest class and the earliest deadline of the exports that wait for it, and the
    classes that it has risen by waiting."""
    rank, deadline = (await session.execute(WISHES, {"run": run.id})).one()
    risen = max(now - run.queued_at, timedelta()) // CLASS_LASTS
    rank = max(0, rank - risen)
    if rank != run.rank:
        run.rank, run.turn = rank, BigInt(await _next_turn(session, run.lane, run.client, rank))
    run.promotes_at = run.queued_at + (risen + 1) * CLASS_LASTS if run.rank else None
    run.due = deadline.timestamp() if deadline else math.inf
    await session.flush()


async def promote(session: AsyncSession, most: int) -> int:
    """Let runs that have waited out their class rise to the next; returns how many."""
    risen = await session.scalars(PROMOTE, {"most": most, "seconds": CLASS_LASTS.total_seconds()})
    lanes = risen.all()
    for lane in set(lanes):
        await notify_change(session, lane)
    return len(lanes)
