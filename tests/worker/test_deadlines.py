"""What is due by the clock: classes gained by waiting, ends of patience, lanes that are blocked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Priority
from app.access.vault import Vault
from app.clock import SystemClock
from app.database.session import Database, elected
from app.events.log import Event, EventType
from app.exports.cancel import cancel
from app.exports.estimates import FEWEST_SAMPLES
from app.exports.models import Export, Phase, Run, Status
from app.exports.states import change, locked_run
from app.ids import LaneKey
from app.lanes.models import Lane, LaneWait, WaitReason
from app.settings import Settings
from app.worker.context import Context
from app.worker.deadlines import DEADLINES_DUTY, keep_deadlines, watch_deadlines
from app.worker.process import worker_context
from tests.builders import Tenant, a_tenant, an_export
from tests.history import check_history
from tests.locks import until_it_waits

Sessions = async_sessionmaker[AsyncSession]
LANE = LaneKey("1001")


@pytest.fixture
async def ctx(settings: Settings, database: Database) -> AsyncIterator[Context]:
    async with worker_context(settings, database, SystemClock()) as context:
        yield context


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


async def test_a_run_that_has_waited_rises(sessions: Sessions, tenant: Tenant, ctx: Context) -> None:
    async with sessions.begin() as session:
        old = await an_export(session, tenant, priority=Priority.LOW)
        new = await an_export(session, tenant, priority=Priority.LOW)
        await session.execute(
            update(Run).where(Run.id == old.run).values(promotes_at=func.now() - timedelta(seconds=1))
        )
    await keep_deadlines(ctx)
    async with sessions() as session:
        ranks = [(await session.get_one(Run, export.run)).rank for export in (old, new)]
    assert ranks == [Priority.NORMAL.rank, Priority.LOW.rank]


async def test_an_export_that_has_waited_out_its_ttl_fails(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    async with sessions.begin() as session:
        late, patient = await an_export(session, tenant), await an_export(session, tenant)
        late.queue_until = func.now() - timedelta(seconds=1)
        patient.queue_until = func.now() + timedelta(hours=1)
    await keep_deadlines(ctx)
    async with sessions() as session:
        failed, queued = [await session.get_one(Export, export.id) for export in (late, patient)]
    assert (failed.status, queued.status) == (Status.FAILED, Status.QUEUED)
    assert failed.error is not None
    assert failed.error["code"] == "queue-ttl-exceeded"


async def test_another_attempt_is_no_new_wait(sessions: Sessions, tenant: Tenant, ctx: Context) -> None:
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        export.queue_until = func.now() - timedelta(seconds=1)
        export.started_at = func.now()
    await keep_deadlines(ctx)
    async with sessions() as session:
        assert (await session.get_one(Export, export.id)).status is Status.QUEUED


async def refused_for(sessions: Sessions, seconds: float) -> None:
    async with sessions.begin() as session:
        await session.execute(update(Lane).values(wait_reason=WaitReason.UPSTREAM_SLOT_BUSY))
        await session.execute(update(LaneWait).values(since=func.now() - timedelta(seconds=seconds)))


async def told(sessions: Sessions) -> list[EventType]:
    async with sessions() as session:
        events = await session.scalars(
            select(Event.type).where(Event.lane == LANE, Event.export.is_(None)).order_by(Event.seq)
        )
        return list(events)


async def test_a_blocked_lane_is_told_once_and_so_is_its_end(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    async with sessions.begin() as session:
        await an_export(session, tenant)
    await refused_for(sessions, 600)
    await keep_deadlines(ctx)
    assert await told(sessions) == []
    await refused_for(sessions, 1000)
    await keep_deadlines(ctx)
    await keep_deadlines(ctx)
    assert await told(sessions) == ["lane.blocked"]
    async with sessions.begin() as session:
        await session.execute(update(Lane).values(wait_reason=None))
    await keep_deadlines(ctx)
    await keep_deadlines(ctx)
    assert await told(sessions) == ["lane.blocked", "lane.unblocked"]


async def test_one_worker_at_a_time_looks(sessions: Sessions, tenant: Tenant, ctx: Context) -> None:
    async with sessions.begin() as session:
        late = await an_export(session, tenant)
        late.queue_until = func.now() - timedelta(seconds=1)
    async with sessions.begin() as other:
        assert await elected(other, DEADLINES_DUTY)
        await keep_deadlines(ctx)
        async with sessions() as session:
            assert (await session.get_one(Export, late.id)).status is Status.QUEUED
    await keep_deadlines(ctx)
    async with sessions() as session:
        assert (await session.get_one(Export, late.id)).status is Status.FAILED


async def watched(sessions: Sessions, tenant: Tenant, due_in: float | None) -> Export:
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        if due_in is not None:
            export.deliver_by = func.now() + timedelta(seconds=due_in)
    return export


async def risks(sessions: Sessions) -> dict[str | None, dict[str, Any]]:
    async with sessions() as session:
        events = await session.scalars(select(Event).where(Event.type == EventType.EXPORT_AT_RISK))
        found = [(event.export, event.data) for event in events]
    assert len(found) == len(dict(found)), "told more than once"
    return dict(found)


async def past_runs(sessions: Sessions, tenant: Tenant, seconds: float) -> None:
    """Enough of them to judge by: each was in progress for so long."""
    for _ in range(FEWEST_SAMPLES):
        async with sessions.begin() as session:
            run = await locked_run(session, (await an_export(session, tenant)).run)
            await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING)
            ended = datetime.now(UTC)
            began = ended - timedelta(seconds=seconds)
            await change(
                session, run, Status.ARCHIVING, actor="test", submitted_at=began, slot_freed_at=ended
            )
            await change(session, run, Status.SUCCEEDED, actor="test")


async def test_an_export_that_will_come_too_late_is_told_of_in_time_and_once(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    await past_runs(sessions, tenant, 100)
    late, in_time, free = [await watched(sessions, tenant, due_in) for due_in in (60, 3600, None)]
    await asyncio.gather(watch_deadlines(ctx), watch_deadlines(ctx))
    await watch_deadlines(ctx)
    told = await risks(sessions)
    assert set(told) == {late.id}
    assert told[late.id]["finish_p90"] > told[late.id]["deliver_by"] > datetime.now(UTC).isoformat()
    async with sessions() as session:
        seen = [await session.get_one(Export, export.id) for export in (late, in_time, free)]
    assert [export.at_risk_since is not None for export in seen] == [True, False, False]
    await check_history(sessions)


async def test_a_queue_is_judged_by_one_look_into_the_past(
    sessions: Sessions, tenant: Tenant, ctx: Context, database: Database
) -> None:
    await past_runs(sessions, tenant, 100)
    looks = list[str]()

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "archiving" in statement and "UNION ALL" in statement:
            looks.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", look)
    exports = [await watched(sessions, tenant, 3600) for _ in range(5)]
    # They are all alike but for the moment that they ask from, which is no part of a shape.
    async with sessions() as session:
        assert len(set(await session.scalars(select(Run.shape).where(Run.status == Status.QUEUED)))) == 1
    await watch_deadlines(ctx)
    assert (len(exports), len(looks)) == (5, 1)


async def test_without_an_estimate_a_deadline_is_told_of_when_it_has_passed(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    passed, ahead = await watched(sessions, tenant, -1), await watched(sessions, tenant, 60)
    await watch_deadlines(ctx)
    told = await risks(sessions)
    assert (set(told), told[passed.id]["finish_p90"]) == ({passed.id}, None)
    assert ahead.id not in told


async def test_what_has_ended_is_at_no_risk(sessions: Sessions, tenant: Tenant, ctx: Context) -> None:
    export = await watched(sessions, tenant, -1)
    async with sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
    await watch_deadlines(ctx)
    assert await risks(sessions) == {}


async def test_what_ends_while_it_is_judged_is_left_alone(
    sessions: Sessions, tenant: Tenant, ctx: Context
) -> None:
    export = await watched(sessions, tenant, -1)
    async with sessions.begin() as session:
        await cancel(session, export.id, actor="test", request_id=None)
        watching = asyncio.create_task(watch_deadlines(ctx))
        await until_it_waits(sessions, watching)
    await watching
    assert await risks(sessions) == {}
    await check_history(sessions)
