"""From where an incremental schedule asks: windows move on from the last success."""

from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.exports.models import Export, Run, Status
from tests.builders import Tenant
from tests.firing.stage import (
    CHANGED_TASKS,
    HOUR,
    MINUTE,
    NOON,
    TEAMS,
    changed,
    ended,
    made,
    succeeded,
    tick,
    watermark,
)

Sessions = async_sessionmaker[AsyncSession]


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
