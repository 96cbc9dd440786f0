"""When to look at a job again."""

from hypothesis import given
from hypothesis import strategies as st

from app.worker.poll import next_look


def test_without_history_the_pause_is_a_twentieth_of_the_time_gone_by() -> None:
    assert next_look(elapsed=120, past=[], least=2, most=60) == 6


def test_the_next_look_is_when_the_next_longer_past_run_would_have_ended() -> None:
    assert next_look(elapsed=100, past=[30, 103, 150], least=2, most=60) == 3


def test_a_gap_between_past_runs_is_not_slept_through() -> None:
    assert next_look(elapsed=100, past=[30, 145, 150], least=2, most=60) == 5


def test_before_the_shortest_of_a_few_past_runs_none_is_looked_for() -> None:
    assert next_look(elapsed=10, past=[50, 60, 70, 80, 90], least=2, most=60) == 40
    assert next_look(elapsed=10, past=[50], least=2, most=60) == 2


def test_a_run_longer_than_all_before_is_looked_at_by_the_time_gone_by() -> None:
    assert next_look(elapsed=200, past=[30, 110, 150], least=2, most=60) == 10


@given(
    elapsed=st.floats(0, 1e6),
    past=st.lists(st.floats(0, 1e6), max_size=20).map(sorted),
)
def test_the_pause_keeps_its_bounds(elapsed: float, past: list[float]) -> None:
    assert 2 <= next_look(elapsed, past, least=2, most=60) <= 60
