"""Estimates hold as often as they say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.exports.estimates import Durations, estimate_queued, estimate_running

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Draw = Callable[[Random], float]
TRACES: dict[str, Draw] = {
    "mild": lambda random: random.lognormvariate(5, 0.3),
    "wild": lambda random: random.lognormvariate(5, 0.8),
    "even": lambda random: random.uniform(60, 300),
    "two kinds": lambda random: random.gauss(60, 6) if random.random() < 0.7 else random.gauss(600, 60),
    "long tail": lambda random: 30 + random.expovariate(1 / 100),
}


def archiving(random: Random) -> float:
    return max(0.1, random.gauss(5, 1))


def history(random: Random, draw: Draw, size: int) -> Durations:
    return Durations([draw(random) for _ in range(size)], [archiving(random) for _ in range(size)])


@pytest.mark.parametrize("name", TRACES)
def test_nine_of_ten_exports_finish_before_their_p90(name: str) -> None:
    """Over short and long histories, short and long queues, with and without a run in the slot."""
    random, draw = Random(name), TRACES[name]
    early = likely = total = 0
    for size in (5, 10, 25, 50):
        for ahead in (0, 1, 3, 10, 40):
            for slot_taken in (True, False):
                for _ in range(150):
                    past = Durations(
                        [draw(random) for _ in range(size)], [archiving(random) for _ in range(size)]
                    )
                    running = draw(random) if slot_taken else 0.0
                    elapsed = running * random.random()
                    wait = running - elapsed + sum(draw(random) for _ in range(ahead))
                    finish = NOW + timedelta(seconds=wait + draw(random) + archiving(random))
                    told = estimate_queued(NOW, ahead, elapsed if slot_taken else None, past, past)
                    assert told is not None
                    early += finish <= told.finish_p90
                    likely += finish <= told.finish_p50
                    total += 1
    assert 0.85 <= early / total <= 0.95
    assert 0.4 <= likely / total <= 0.6


@pytest.mark.parametrize("name", TRACES)
def test_nine_of_ten_running_exports_finish_before_their_p90(name: str) -> None:
    random, draw = Random(name), TRACES[name]
    early = total = 0
    for size in (10, 50):
        for _ in range(1000):
            past = history(random, draw, size)
            lasts = draw(random)
            elapsed = lasts * random.random()
            told = estimate_running(NOW, elapsed, past)
            assert told is not None
            early += NOW + timedelta(seconds=lasts - elapsed + archiving(random)) <= told.finish_p90
            total += 1
    assert 0.85 <= early / total <= 0.97


def test_four_samples_are_too_few() -> None:
    few, enough = Durations([1.0] * 4, [1.0] * 4), Durations([1.0, 2.0] * 3, [1.0] * 6)
    assert estimate_queued(NOW, 1, None, enough, few) is None
    assert estimate_queued(NOW, 1, None, few, enough) is None
    assert estimate_running(NOW, 1, few) is None
    assert estimate_queued(NOW, 1, None, enough, enough) is not None


def test_an_estimate_is_in_order() -> None:
    random = Random(1)
    past = Durations([random.uniform(10, 99) for _ in range(20)], [1.0] * 20)
    told = estimate_queued(NOW, 3, 5.0, past, past)
    assert told is not None
    assert told.start_p50 is not None
    assert told.start_p90 is not None
    assert NOW < told.start_p50 < told.start_p90 < told.finish_p90
    assert told.start_p50 < told.finish_p50 < told.finish_p90


def test_all_alike_is_known_for_sure() -> None:
    past = Durations([60.0] * 5, [5.0] * 5)
    told = estimate_queued(NOW, 2, None, past, past)
    assert told is not None
    assert told.start_p50 == told.start_p90 == NOW + timedelta(seconds=120)
