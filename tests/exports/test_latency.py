"""Every microsecond of an export's time belongs to one cause."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.exports.latency import CAUSES, latency, settle
from app.exports.models import Export, Status
from app.lanes.models import LaneWait

START = datetime(2026, 1, 1, tzinfo=UTC)
PARTS = ("behind_others_ms", "external_ms", "backoff_ms", "paused_ms", "run_ms", "archive_ms")


def at(microseconds: int) -> datetime:
    return START + timedelta(microseconds=microseconds)


def an_export(status: Status = Status.QUEUED) -> Export:
    nothing = dict.fromkeys(("external_us", "backoff_us", "paused_us", "run_us", "archive_us"), 0)
    return Export(lane="1", status=status, created_at=START, phase_since=START, **nothing)


def a_wait(reason: str, since: int, until: int | None) -> LaneWait:
    return LaneWait(lane="1", reason=reason, since=at(since), until=None if until is None else at(until))


def test_a_wait_of_the_lane_is_told_from_waiting_behind_others() -> None:
    waits = [
        a_wait("upstream_slot_busy", 1_000_000, 3_000_000),
        a_wait("rate_limited", 3_000_000, 3_500_000),
        a_wait("lane_paused", 8_000_000, None),
    ]
    told = latency(an_export(), waits, START, at(10_000_000))
    assert (told.total_ms, told.external_ms, told.backoff_ms, told.paused_ms) == (10_000, 2_000, 500, 2_000)
    assert told.behind_others_ms == 5_500


def test_a_runs_own_backoff_is_what_the_lane_leaves_of_it() -> None:
    waits = [a_wait("upstream_slot_busy", 2_000_000, 9_000_000)]
    told = latency(an_export(), waits, at(4_000_000), at(10_000_000))
    assert (told.external_ms, told.backoff_ms, told.behind_others_ms) == (7_000, 3_000, 0)


def test_stages_follow_each_other() -> None:
    export = an_export()
    for status, until in ((Status.RUNNING, 1_500), (Status.ARCHIVING, 4_000), (Status.SUCCEEDED, 4_200)):
        settle(export, [], START, at(until * 1000))
        export.status = status
    export.finished_at = at(4_200_000)
    told = latency(export, [], START, at(99_000_000))
    assert (told.behind_others_ms, told.run_ms, told.archive_ms, told.total_ms) == (1_500, 2_500, 200, 4_200)


stages = st.lists(
    st.tuples(st.sampled_from([Status.QUEUED, Status.RUNNING, Status.ARCHIVING]), st.integers(0, 10**7)),
    min_size=1,
    max_size=6,
)
lane_times = st.lists(st.tuples(st.sampled_from(sorted(CAUSES)), st.integers(0, 10**7)), max_size=6)


@given(stages, lane_times, st.integers(0, 10**8), st.booleans())
def test_the_parts_add_up_to_the_total(
    stages: list[tuple[Status, int]], lane_times: list[tuple[str, int]], held_back: int, ended: bool
) -> None:
    export, now = an_export(), 0
    waits, since = [], 0
    for number, (reason, lasts) in enumerate(lane_times):
        until = since + lasts
        waits.append(a_wait(reason, since, until if number < len(lane_times) - 1 else None))
        since = until
    for status, lasts in stages:
        now += lasts
        settle(export, waits, at(held_back), at(now))
        export.status = status
    if ended:
        export.status, export.finished_at = Status.SUCCEEDED, at(now)
    told = latency(export, waits, at(held_back), at(now + 12_345))
    parts = [getattr(told, part) for part in PARTS]
    assert sum(parts) == told.total_ms == (now + (0 if ended else 12_345)) // 1000
    assert min(parts) >= 0
