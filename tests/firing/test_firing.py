"""Each slot of a schedule is fired once, in the name of its client."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Priority
from app.events.log import Event
from app.exports.accept import Rules
from app.exports.firing import fire
from app.exports.models import Export, Phase, Status
from app.exports.quotas import Limits
from app.exports.schedules import pause, remove, resume
from app.exports.states import change, locked_run
from app.schedules.models import Schedule
from app.schedules.slots import Timing
from tests.builders import Tenant
from tests.firing.stage import HOUR, MINUTE, NOON, WORD, ended, made, skips, tick

Sessions = async_sessionmaker[AsyncSession]


async def test_a_slot_fires_when_it_is_due_once_and_in_the_name_of_its_client(
    sessions: Sessions, tenant: Tenant
) -> None:
    how = {"priority": "high", "labels": {"team": "bi"}, "queue_ttl": 600, "deliver_within": 7200}
    schedule = await made(sessions, tenant, export=how)
    assert await tick(sessions, NOON + 59 * MINUTE) == []
    (export,) = await tick(sessions, NOON + HOUR)
    assert await tick(sessions, NOON + HOUR) == []
    assert (export.schedule, export.slot, export.client) == (schedule, NOON + HOUR, tenant.client.id)
    assert (export.priority, export.labels) == (Priority.HIGH, {"team": "bi"})
    assert export.deliver_by == NOON + 3 * HOUR
    assert export.queue_until == export.created_at + timedelta(seconds=600)
    async with sessions() as session:
        created = await session.scalar(select(Event).where(Event.export == export.id))
        assert created is not None
        assert created.actor == f"schedule:{schedule}"


async def test_jitter_delays_a_slot(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, jitter=1800)
    async with sessions() as session:
        found = await session.get_one(Schedule, schedule)
    assert NOON + HOUR < found.fires_at <= NOON + HOUR + 30 * MINUTE
    assert await tick(sessions, found.fires_at - MINUTE / 60) == []
    (export,) = await tick(sessions, found.fires_at)
    assert export.slot == NOON + HOUR


async def test_several_workers_fire_a_slot_once(sessions: Sessions, tenant: Tenant) -> None:
    schedules = [await made(sessions, tenant) for _ in range(3)]
    rounds = await asyncio.gather(*(tick(sessions, NOON + HOUR) for _ in range(6)))
    fired = [export.schedule for found in rounds for export in found]
    assert sorted(map(str, fired)) == sorted(schedules)


async def test_one_that_is_being_fired_is_passed_over(sessions: Sessions, tenant: Tenant) -> None:
    """Neither waited for nor fired again: the second worker finds it gone on."""
    schedule = await made(sessions, tenant)
    async with sessions.begin() as first:
        assert await fire(first, schedule, Rules(), NOON + HOUR)
        assert await asyncio.wait_for(tick(sessions, NOON + HOUR), 10) == []
    assert await tick(sessions, NOON + HOUR) == []


async def test_the_database_refuses_a_second_export_of_a_slot(sessions: Sessions, tenant: Tenant) -> None:
    await made(sessions, tenant)
    await ended(sessions, *await tick(sessions, NOON + HOUR))
    async with sessions.begin() as session:
        back = text("UPDATE schedules SET next_slot = next_slot - :hour, fires_at = fires_at - :hour")
        await session.execute(back, {"hour": HOUR})
    with pytest.raises(IntegrityError, match="exports_schedule_slot_idx"):
        await tick(sessions, NOON + HOUR)


async def test_it_joins_a_run_that_is_fresh_enough(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, export={"max_age": 600})
    (first,) = await tick(sessions, NOON + HOUR)
    (second,) = await tick(sessions, NOON + 2 * HOUR)
    assert second.run == first.run
    async with sessions.begin() as session:
        run = await locked_run(session, first.run)
        too_old = datetime.now(UTC) - timedelta(seconds=700)
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING, submitted_at=too_old)
    assert await tick(sessions, NOON + 3 * HOUR) == []
    assert [skip.reason for skip in await skips(sessions, schedule)] == ["still_running"]


async def test_a_removed_schedule_fires_nothing(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    async with sessions.begin() as session:
        await remove(session, tenant.client, schedule, Rules(), WORD)
    assert await tick(sessions, NOON + HOUR) == []


# Hours and minutes around a change of the clock: how long until workers look again, whether that is after a
# downtime of all of them, whether the export of before has ended, and what a person does meanwhile.
LOOKS = st.lists(
    st.tuples(
        st.sampled_from([1, 4, 5, 6, 59, 60, 61, 180, 1500, 5000]),
        st.booleans(),
        st.sampled_from(["", "", "", "pause", "resume", "full"]),
    ),
    min_size=1,
    max_size=12,
)


@given(
    cron=st.sampled_from(["*/20 * * * *", "30 2 * * *", "15 * * * *", "0 */6 * * *", "7 1,2,3 * * *"]),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    start=st.sampled_from(["2026-03-07T20:11", "2026-03-28T20:11", "2026-10-24T20:11", "2026-10-31T20:11"]),
    jitter=st.sampled_from([0, 90]),
    catch_up=st.sampled_from(["skip", "latest"]),
    looks=LOOKS,
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_slot_is_fired_once_or_skipped_once(
    sessions: Sessions,
    tenant: Tenant,
    cron: str,
    zone: str,
    start: str,
    jitter: int,
    catch_up: str,
    looks: Sequence[tuple[int, bool, str]],
) -> None:
    now = datetime.fromisoformat(start).replace(tzinfo=UTC)
    how = {"cron": cron, "timezone": zone, "jitter": jitter, "catch_up": catch_up}
    schedule = await made(sessions, tenant, now, **how)
    timing, first, fired = Timing(cron, zone, jitter, schedule), now, list[Export]()
    for minutes, has_ended, act in looks:
        now += timedelta(minutes=minutes)
        if has_ended:
            await ended(sessions, *fired[-1:])
        async with sessions.begin() as session:
            if act == "pause":
                await pause(session, tenant.client, schedule, Rules(), WORD)
            elif act == "resume":
                await resume(session, tenant.client, schedule, Rules(), now, WORD)
        rules = Rules(limits=Limits(queued_per_lane=0)) if act == "full" else Rules()
        fired += await tick(sessions, now, rules)
    async with sessions.begin() as session:
        await resume(session, tenant.client, schedule, Rules(), now, WORD)
        await remove(session, tenant.client, schedule, Rules(), WORD)
    await ended(sessions, *fired[-1:])

    due = [
        slot
        for slot in takewhile(lambda slot: slot <= now, timing.slots_after(first))
        if timing.fires_at(slot) <= now
    ]
    passed = [
        slot for skip in await skips(sessions, schedule) for slot in due if skip.slot <= slot < skip.until
    ]
    assert sorted([*passed, *(export.slot for export in fired if export.slot)]) == due
