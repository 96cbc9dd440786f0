"""Each slot of a schedule is fired once, or skipped with a reason; the clock is handed in."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientChanges, GrantSpec, change_client, replace_key, revoke_client
from app.access.credentials import remove_workspace
from app.access.models import Kind, Priority, Scope
from app.access.vault import Vault
from app.events.log import Cause, Event, EventType
from app.exports.accept import Rules
from app.exports.cancel import cancel
from app.exports.firing import due_schedules, fire
from app.exports.models import Export, Phase, Run, Status
from app.exports.quotas import Limits
from app.exports.schedules import ScheduleSpec, change_schedule, pause, remove, resume
from app.exports.states import change, locked_run
from app.ids import LaneKey, ScheduleId
from app.lanes.control import drain
from app.lanes.control import resume as reopen
from app.schedules.models import Schedule, SkipReason, Watermark
from app.schedules.slots import Timing
from tests.builders import Tenant, a_schedule, a_tenant
from tests.history import check_history

Sessions = async_sessionmaker[AsyncSession]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
WORD = Cause("test")
SINCE = {"modified_at.after": {"since": "last_success", "overlap": "10m"}}
CHANGED_TASKS = {"export_request_parameters": [{"resource_type": "task", "filters": SINCE}]}
TEAMS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "team"}]}


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> AsyncIterator[Tenant]:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    yield tenant
    await check_history(sessions)


async def made(sessions: Sessions, tenant: Tenant, now: datetime = NOON, **how: Any) -> ScheduleId:
    async with sessions.begin() as session:
        return await a_schedule(session, tenant, now, **how)


async def tick(sessions: Sessions, now: datetime, rules: Rules | None = None) -> list[Export]:
    """What a worker does every few seconds; the exports that were asked for."""
    async with sessions() as session:
        due = await due_schedules(session, now)
    fired = []
    for schedule in due:
        async with sessions.begin() as session:
            fired.append(await fire(session, schedule, rules or Rules(), now))
    return [export for export in fired if export]


async def ended(sessions: Sessions, *exports: Export) -> None:
    for export in exports:
        async with sessions.begin() as session:
            await cancel(session, export.id, actor="test", request_id=None)


async def succeeded(sessions: Sessions, export: Export, data_from: datetime | None) -> None:
    async with sessions.begin() as session:
        run = await locked_run(session, export.run)
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING)
        await change(session, run, Status.ARCHIVING, actor="test", data_from=data_from)
        await change(session, run, Status.SUCCEEDED, actor="test")


@dataclass(frozen=True)
class Skip:
    slot: datetime
    until: datetime
    reason: str


async def skips(sessions: Sessions, schedule: ScheduleId) -> list[Skip]:
    async with sessions() as session:
        told = Event.data["schedule"].astext == schedule
        skipped = select(Event).where(Event.type == EventType.SCHEDULE_SKIPPED, told)
        events = (await session.scalars(skipped.order_by(Event.seq))).all()
        assert {(event.actor, event.lane) for event in events} <= {(f"schedule:{schedule}", "1001")}
        return [
            Skip(
                datetime.fromisoformat(event.data["slot"]),
                datetime.fromisoformat(event.data["until"]),
                event.data["reason"],
            )
            for event in events
        ]


async def watermark(sessions: Sessions, schedule: ScheduleId) -> datetime | None:
    async with sessions() as session:
        return (await session.get_one(Watermark, schedule)).moment


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


async def test_slots_missed_in_a_downtime_are_skipped(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, catch_up="skip")
    back = NOON + 4 * HOUR + 30 * MINUTE
    assert await tick(sessions, back) == []
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 5 * HOUR, "missed")]
    assert len(await tick(sessions, NOON + 5 * HOUR)) == 1


async def test_the_newest_of_the_missed_slots_can_be_made_up_for(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, catch_up="latest")
    (export,) = await tick(sessions, NOON + 4 * HOUR + 30 * MINUTE)
    assert export.slot == NOON + 4 * HOUR
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 4 * HOUR, "missed")]


async def test_a_restart_makes_no_slot_a_missed_one(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, cron="* * * * *", catch_up="skip")
    (export,) = await tick(sessions, NOON + 4 * MINUTE)
    assert export.slot == NOON + 4 * MINUTE
    assert await skips(sessions, schedule) == [Skip(NOON + MINUTE, NOON + 4 * MINUTE, "missed")]


async def test_a_slot_does_not_stack_behind_the_export_of_the_last(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant)
    (first,) = await tick(sessions, NOON + HOUR)
    assert await tick(sessions, NOON + 2 * HOUR) == []
    assert await skips(sessions, schedule) == [Skip(NOON + 2 * HOUR, NOON + 3 * HOUR, "still_running")]
    await ended(sessions, first)
    assert len(await tick(sessions, NOON + 3 * HOUR)) == 1


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


async def test_a_client_that_may_no_longer_is_skipped_until_it_may_again(
    sessions: Sessions, tenant: Tenant
) -> None:
    client = tenant.client.id
    schedule = await made(sessions, tenant, export={"priority": "high"})

    async def may(**changes: Any) -> None:
        async with sessions.begin() as session:
            await change_client(session, client, ClientChanges(**changes), WORD)

    everything = GrantSpec(highest_priority=Priority.URGENT)
    await may(grants=(GrantSpec(workspace="7"),))
    await tick(sessions, NOON + 1 * HOUR)
    await may(grants=(GrantSpec(kinds=(Kind.GRAPH,)),))
    await tick(sessions, NOON + 2 * HOUR)
    await may(grants=(GrantSpec(highest_priority=Priority.LOW),))
    await tick(sessions, NOON + 3 * HOUR)
    await may(grants=(everything,), scopes=(Scope.EXPORTS_READ,))
    await tick(sessions, NOON + 4 * HOUR)
    await may(scopes=(Scope.EXPORTS_WRITE,))
    async with sessions.begin() as session:
        await revoke_client(session, client, WORD)
    await tick(sessions, NOON + 5 * HOUR)
    reasons = [skip.reason for skip in await skips(sessions, schedule)]
    assert reasons == ["grant_missing"] * 4 + ["client_revoked"]
    async with sessions.begin() as session:
        await replace_key(session, client, WORD)
    assert len(await tick(sessions, NOON + 6 * HOUR)) == 1


async def test_a_full_queue_a_quota_and_a_queue_that_drains_are_told(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant)
    full = Rules(limits=Limits(queued_per_lane=0))
    assert await tick(sessions, NOON + HOUR, full) == []
    async with sessions.begin() as session:
        await drain(session, LaneKey("1001"), "1001", WORD)
    assert await tick(sessions, NOON + 2 * HOUR) == []
    async with sessions.begin() as session:
        await reopen(session, LaneKey("1001"), "1001", WORD)
        await session.execute(text("UPDATE clients SET max_queued = 1"))
    other = await made(sessions, tenant, export=TEAMS)
    (export,) = await tick(sessions, NOON + 3 * HOUR)
    blocked = other if export.schedule == schedule else schedule
    assert {skip.reason for skip in await skips(sessions, blocked)} >= {"quota_exceeded"}
    assert [skip.reason for skip in await skips(sessions, schedule)][:2] == ["queue_full", "lane_draining"]


async def test_a_removed_workspace_is_told(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    async with sessions.begin() as session:
        await remove_workspace(session, tenant.client, "1001", WORD)
    assert await tick(sessions, NOON + HOUR) == []
    assert [skip.reason for skip in await skips(sessions, schedule)] == ["workspace_removed"]


async def test_a_request_of_another_version_is_told(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    async with sessions.begin() as session:
        await session.execute(text("""UPDATE schedules SET export = export || '{"unknown": 1}'"""))
    assert await tick(sessions, NOON + HOUR) == []
    assert [skip.reason for skip in await skips(sessions, schedule)] == ["request_refused"]
    await changed(sessions, tenant, schedule, NOON + HOUR, export=TEAMS)
    assert len(await tick(sessions, NOON + 2 * HOUR)) == 1


async def test_a_paused_schedule_fires_nothing_and_tells_what_it_passed_over(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, catch_up="latest")
    async with sessions.begin() as session:
        await pause(session, tenant.client, schedule, Rules(), WORD)
    assert await tick(sessions, NOON + 2 * HOUR) == []
    async with sessions.begin() as session:
        now = NOON + 2 * HOUR + 30 * MINUTE
        await resume(session, tenant.client, schedule, Rules(), now, WORD)
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 3 * HOUR, "paused")]
    assert len(await tick(sessions, NOON + 3 * HOUR)) == 1


FULL = Rules(limits=Limits(queued_per_lane=0))


async def test_a_slot_that_meets_a_full_queue_is_tried_again_until_there_is_room(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, catch_up="latest")
    for minutes in (0, 3, 6):
        assert await tick(sessions, NOON + HOUR + minutes * MINUTE, FULL) == []
        # Not each time that a worker looks.
        assert await tick(sessions, NOON + HOUR + (minutes + 2.9) * MINUTE) == []
    async with sessions() as session:
        found = await session.get_one(Schedule, schedule)
    assert (found.next_slot, found.put_off, found.skips) == (NOON + HOUR, SkipReason.QUEUE_FULL, 0)
    (export,) = await tick(sessions, NOON + HOUR + 9 * MINUTE)
    assert export.slot == NOON + HOUR
    await ended(sessions, export)
    assert await tick(sessions, NOON + HOUR + 59 * MINUTE) == []
    (after,) = await tick(sessions, NOON + 2 * HOUR)
    assert after.slot == NOON + 2 * HOUR
    assert await skips(sessions, schedule) == []
    async with sessions() as session:
        assert (await session.get_one(Schedule, schedule)).put_off is None


async def test_a_slot_that_finds_no_room_is_skipped_for_that_when_the_next_is_due(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, catch_up="latest")
    assert await tick(sessions, NOON + HOUR, FULL) == []
    # The next slot is looked for when it is due, not three minutes later.
    assert await tick(sessions, NOON + 2 * HOUR - MINUTE, FULL) == []
    (export,) = await tick(sessions, NOON + 2 * HOUR)
    assert export.slot == NOON + 2 * HOUR
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 2 * HOUR, "queue_full")]
    await ended(sessions, export)
    assert await tick(sessions, NOON + 3 * HOUR, FULL) == []
    (late,) = await tick(sessions, NOON + 6 * HOUR)
    assert late.slot == NOON + 6 * HOUR
    assert (await skips(sessions, schedule))[1:] == [
        Skip(NOON + 3 * HOUR, NOON + 4 * HOUR, "queue_full"),
        Skip(NOON + 4 * HOUR, NOON + 6 * HOUR, "missed"),
    ]


async def test_what_is_put_off_meanwhile_is_told_of_for_its_own_reason(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedules = [await made(sessions, tenant, catch_up="latest") for _ in range(4)]
    paused, moved, ended_one, revoked = schedules
    assert await tick(sessions, NOON + HOUR, FULL) == []
    now = NOON + 2 * HOUR + MINUTE
    async with sessions.begin() as session:
        await pause(session, tenant.client, paused, Rules(), WORD)
        await resume(session, tenant.client, paused, Rules(), now, WORD)
        await remove(session, tenant.client, ended_one, Rules(), WORD)
    await changed(sessions, tenant, moved, NOON + HOUR + MINUTE, cron="30 * * * *")
    put_off = Skip(NOON + HOUR, NOON + 2 * HOUR, "queue_full")
    assert await skips(sessions, paused) == [put_off, Skip(NOON + 2 * HOUR, NOON + 3 * HOUR, "paused")]
    assert await skips(sessions, ended_one) == await skips(sessions, moved) == [put_off]
    async with sessions.begin() as session:
        await revoke_client(session, tenant.client.id, WORD)
    assert await tick(sessions, NOON + HOUR + 3 * MINUTE) == []
    assert await skips(sessions, revoked) == [Skip(NOON + HOUR, NOON + 2 * HOUR, "client_revoked")]


async def test_what_is_not_to_be_caught_up_with_is_not_tried_again(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, catch_up="skip")
    assert await tick(sessions, NOON + HOUR, FULL) == []
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 2 * HOUR, "queue_full")]
    assert await tick(sessions, NOON + HOUR + 3 * MINUTE) == []


async def test_a_removed_schedule_fires_nothing(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    async with sessions.begin() as session:
        await remove(session, tenant.client, schedule, Rules(), WORD)
    assert await tick(sessions, NOON + HOUR) == []


async def changed(
    sessions: Sessions, tenant: Tenant, schedule: ScheduleId, now: datetime, **how: Any
) -> None:
    async with sessions.begin() as session:
        found = await session.get_one(Schedule, schedule)
        given = {"name": found.name, "cron": found.cron, "export": found.export} | how
        spec = ScheduleSpec.model_validate(given)
        await change_schedule(session, tenant.client, schedule, spec, Rules(), now, WORD)


async def test_another_time_counts_from_now_on(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    await changed(sessions, tenant, schedule, NOON + HOUR + MINUTE, cron="30 * * * *")
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 2 * HOUR, "changed")]
    (export,) = await tick(sessions, NOON + 90 * MINUTE)
    assert export.slot == NOON + 90 * MINUTE


async def test_a_slot_that_waits_out_its_jitter_when_the_time_is_changed_is_told_of(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, jitter=3000)
    await changed(sessions, tenant, schedule, NOON + HOUR, cron="30 * * * *")
    assert await skips(sessions, schedule) == [Skip(NOON + HOUR, NOON + 2 * HOUR, "changed")]
    (export,) = await tick(sessions, NOON + 90 * MINUTE)
    assert export.slot == NOON + 90 * MINUTE


async def test_another_request_at_the_same_times_skips_nothing(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant)
    await changed(sessions, tenant, schedule, NOON + HOUR + MINUTE, export=TEAMS)
    (export,) = await tick(sessions, NOON + HOUR + MINUTE)
    assert export.request["export_request_parameters"] == [{"resource_type": "team"}]


def asked_from(export: Export) -> datetime | None:
    (item,) = export.request["export_request_parameters"]
    after = item.get("filters", {}).get("modified_at.after")
    return datetime.fromisoformat(after) if after else None


async def test_an_incremental_schedule_asks_from_where_its_last_success_had_data(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, export=CHANGED_TASKS)
    (first,) = await tick(sessions, NOON + HOUR)
    assert (asked_from(first), await watermark(sessions, schedule)) == (None, None)
    began = NOON + HOUR + MINUTE
    await succeeded(sessions, first, began)
    assert await watermark(sessions, schedule) == began
    (second,) = await tick(sessions, NOON + 2 * HOUR)
    assert asked_from(second) == began - 10 * MINUTE
    await ended(sessions, second)
    (third,) = await tick(sessions, NOON + 3 * HOUR)
    assert asked_from(third) == began - 10 * MINUTE


async def test_what_asana_does_not_tell_moves_no_watermark(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, export=CHANGED_TASKS)
    (first,) = await tick(sessions, NOON + HOUR)
    await succeeded(sessions, first, None)
    assert await watermark(sessions, schedule) is None


async def test_the_watermark_never_goes_back_by_an_export_that_ends_late(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, export=CHANGED_TASKS)
    (first,) = await tick(sessions, NOON + HOUR)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE schedules SET last_export = NULL"))
        await session.execute(text("UPDATE runs SET fingerprint = 'of its own'"))
    (second,) = await tick(sessions, NOON + 2 * HOUR)
    assert first.run != second.run
    await succeeded(sessions, second, NOON + 2 * HOUR)
    await succeeded(sessions, first, NOON + HOUR)
    assert await watermark(sessions, schedule) == NOON + 2 * HOUR


async def test_a_shared_run_counts_for_all_its_schedules(sessions: Sessions, tenant: Tenant) -> None:
    schedules = [await made(sessions, tenant, export=CHANGED_TASKS) for _ in range(2)]
    one, other = await tick(sessions, NOON + HOUR)
    assert one.run == other.run
    await succeeded(sessions, one, NOON + HOUR)
    assert [await watermark(sessions, schedule) for schedule in schedules] == [NOON + HOUR] * 2


async def test_a_canceled_export_moves_no_watermark_though_its_run_succeeds(
    sessions: Sessions, tenant: Tenant
) -> None:
    for _ in range(2):
        await made(sessions, tenant, export=CHANGED_TASKS)
    kept, left = await tick(sessions, NOON + HOUR)
    await ended(sessions, left)
    await succeeded(sessions, kept, NOON + HOUR)
    assert kept.schedule
    assert left.schedule
    assert await watermark(sessions, kept.schedule) == NOON + HOUR
    assert await watermark(sessions, left.schedule) is None


async def test_a_run_that_has_succeeded_before_counts_too(sessions: Sessions, tenant: Tenant) -> None:
    schedule = await made(sessions, tenant, export={"max_age": 3600})
    (first,) = await tick(sessions, NOON + HOUR)
    moment = datetime.now(UTC) - MINUTE
    await succeeded(sessions, first, moment)
    await changed(sessions, tenant, schedule, NOON + HOUR, watermark=None)
    assert await watermark(sessions, schedule) is None
    async with sessions.begin() as session:
        run = await session.get_one(Run, first.run)
        run.submitted_at = moment
        await session.execute(
            text(
                "INSERT INTO artifacts (id, run, state, key, location, media_type, sha256, bytes, "
                "uncompressed_bytes, lines, by_type, expires_at) SELECT 'art_1', id, 'available', 'k', 'l', "
                "'m', 's', 1, 1, 1, '{}', now() + interval '1 day' FROM runs"
            )
        )
    (second,) = await tick(sessions, NOON + 2 * HOUR)
    assert (second.run, second.status) == (first.run, Status.SUCCEEDED)
    assert await watermark(sessions, schedule) == moment


async def test_the_watermark_can_be_set_and_exports_from_before_do_not_move_it(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, export=CHANGED_TASKS, watermark=NOON.isoformat())
    (first,) = await tick(sessions, NOON + HOUR)
    assert asked_from(first) == NOON - 10 * MINUTE
    january = datetime(2026, 1, 1, tzinfo=UTC)
    await changed(sessions, tenant, schedule, NOON + HOUR, watermark=january.isoformat())
    await succeeded(sessions, first, NOON + HOUR)
    assert await watermark(sessions, schedule) == january
    (second,) = await tick(sessions, NOON + 2 * HOUR)
    assert asked_from(second) == january - 10 * MINUTE


async def test_the_watermark_outlives_a_change_unless_it_is_of_the_request(
    sessions: Sessions, tenant: Tenant
) -> None:
    schedule = await made(sessions, tenant, export=CHANGED_TASKS, watermark=NOON.isoformat())
    await changed(sessions, tenant, schedule, NOON, cron="30 * * * *")
    assert await watermark(sessions, schedule) == NOON
    await changed(sessions, tenant, schedule, NOON, export=TEAMS)
    assert await watermark(sessions, schedule) is None


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
