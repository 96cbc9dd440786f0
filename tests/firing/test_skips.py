"""A slot without an export is told of, with its reason; some are made up for."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientChanges, GrantSpec, change_client, replace_key, revoke_client
from app.access.credentials import remove_workspace
from app.access.models import Kind, Priority, Scope
from app.exports.accept import Rules
from app.exports.quotas import Limits
from app.exports.schedules import pause, remove, resume
from app.ids import LaneKey
from app.lanes.control import drain
from app.lanes.control import resume as reopen
from app.schedules.models import Schedule, SkipReason
from tests.builders import Tenant
from tests.firing.stage import HOUR, MINUTE, NOON, TEAMS, WORD, Skip, changed, ended, made, skips, tick

Sessions = async_sessionmaker[AsyncSession]
FULL = Rules(limits=Limits(queued_per_lane=0))


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
