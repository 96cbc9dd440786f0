"""Slots are those of the cron expression in its zone, through every change of the clock."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.schedules.slots import Timing

BERLIN, NEW_YORK, LORD_HOWE, KOLKATA = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(cron: str, zone: str, since: str, count: int) -> list[str]:
    """The next ones from midnight of a day, in the zone."""
    start = datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone))
    found = islice(Timing(cron, zone).slots_after(start - timedelta(seconds=1)), count)
    return [f"{slot.astimezone(ZoneInfo(zone)):%d %H:%M %z}" for slot in found]


# The day on which the clock changes: at 2:00 it is put to 3:00 (in Lord Howe to 2:30), and at 3:00 back to
# 2:00 (New York: at 2:00 to 1:00, Lord Howe: to 1:30).
@pytest.mark.parametrize(
    ("cron", "zone", "day", "expected"),
    [
        # A time that does not exist is made up for as soon as the clock is right again.
        ("30 2 * * *", BERLIN, "2026-03-29", ["29 03:00 +0200", "30 02:30 +0200"]),
        ("30 2 * * *", NEW_YORK, "2026-03-08", ["08 03:00 -0400", "09 02:30 -0400"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-04", ["04 02:30 +1100", "05 02:15 +1100"]),
        # A time that comes twice counts once, at its first coming.
        ("30 2 * * *", BERLIN, "2026-10-25", ["25 02:30 +0200", "26 02:30 +0100"]),
        ("30 1 * * *", NEW_YORK, "2026-11-01", ["01 01:30 -0400", "02 01:30 -0500"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-05", ["05 01:45 +1100", "06 01:45 +1030"]),
        # What is meant to come every so often comes at all of these.
        ("0 * * * *", BERLIN, "2026-03-29", ["29 00:00 +0100", "29 01:00 +0100", "29 03:00 +0200"]),
        (
            "30 * * * *",
            NEW_YORK,
            "2026-11-01",
            ["01 00:30 -0400", "01 01:30 -0400", "01 01:30 -0500", "01 02:30 -0500"],
        ),
        # A zone of half hours.
        ("0 2 * * *", KOLKATA, "2026-03-29", ["29 02:00 +0530", "30 02:00 +0530"]),
        # Days of the week and of the month: either will do, as in crontab(5).
        ("0 6 1 * MON", BERLIN, "2026-06-01", ["01 06:00 +0200", "08 06:00 +0200"]),
    ],
)
def test_slots_on_the_day_on_which_the_clock_changes(
    cron: str, zone: str, day: str, expected: Sequence[str]
) -> None:
    assert slots(cron, zone, day, len(expected)) == list(expected)


@pytest.mark.parametrize("cron", ["* * * *", "* * * * * *", "@daily", "61 * * * *", "", "0 0 30 2 *"])
def test_what_is_no_cron_expression_of_five_fields_is_told(cron: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Timing(cron, "UTC").slot_after(utc("2026-01-01"))


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "UTC"])
def test_daily_slots_come_once_a_day_for_years(zone: str) -> None:
    for time in ("30 1", "30 2", "0 3"):
        found = takewhile(
            lambda slot: slot < utc("2030-01-01"),
            Timing(f"{time} * * *", zone).slots_after(utc("2026-01-01") + timedelta(hours=12)),
        )
        days = [slot.astimezone(ZoneInfo(zone)).date() for slot in found]
        assert len(days) == len({*days})
        assert days[-1] - days[0] == timedelta(days=len(days) - 1)


CRONS = (
    "* * * * *",
    "*/7 * * * *",
    "15 * * * *",
    "30 2 * * *",
    "0 */3 * * *",
    "5 1,2,3 * * 1-5",
    "0 0 1 * *",
)
ZONES = (BERLIN, NEW_YORK, KOLKATA, "UTC")
# Around changes of the clock, and elsewhere.
STARTS = st.sampled_from(["2026-03-07", "2026-03-28", "2026-10-24", "2026-10-31", "2026-07-01"]).map(utc)


@given(
    cron=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    start=STARTS,
    away=st.integers(0, 3 * 86_400),
    jitter=st.integers(0, 59),
)
def test_the_newest_of_many_missed_slots_is_found_without_going_through_all(
    cron: str, zone: str, start: datetime, away: int, jitter: int
) -> None:
    timing = Timing(cron, zone, jitter, "sch_1")
    first = timing.slot_after(start)
    now = timing.fires_at(first) + timedelta(seconds=away)
    due = [
        slot
        for slot in takewhile(lambda slot: slot <= now, timing.slots_after(start))
        if timing.fires_at(slot) <= now
    ]
    assert timing.newest_due(first, now) == due[-1]


def test_the_newest_slot_is_found_after_a_year_of_minutes() -> None:
    timing = Timing("* * * * *", BERLIN)
    assert timing.newest_due(utc("2025-01-01"), utc("2026-01-01")) == utc("2026-01-01")


def test_jitter_is_the_same_for_whoever_asks_and_differs_by_slot_and_schedule() -> None:
    one, same, other = [Timing("0 * * * *", "UTC", 600, seed) for seed in ("sch_1", "sch_1", "sch_2")]
    hours = [utc("2026-01-01") + timedelta(hours=hour) for hour in range(200)]
    delays = [(one.fires_at(slot) - slot).total_seconds() for slot in hours]
    assert [one.fires_at(slot) for slot in hours] == [
        same.fires_at(slot.astimezone(ZoneInfo(BERLIN))) for slot in hours
    ]
    assert [one.fires_at(slot) for slot in hours] != [other.fires_at(slot) for slot in hours]
    assert min(delays) >= 0
    assert max(delays) <= 600
    assert len({*delays}) > 100
