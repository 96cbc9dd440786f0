"""Virtual time."""

import pytest

from app.sandbox.clock import VirtualClock, timestamp


def test_a_stopped_clock_moves_by_hand_only() -> None:
    clock = VirtualClock(starts_at=1000.0, scale=0)
    clock.advance(60)
    assert (clock.now(), clock.now()) == (1060.0, 1060.0)


def test_a_change_of_speed_does_not_change_the_time() -> None:
    clock = VirtualClock(starts_at=1000.0, scale=0)
    clock.run_at(1e-9)
    assert clock.now() == pytest.approx(1000.0)


def test_a_client_of_a_fast_clock_waits_less() -> None:
    assert VirtualClock(scale=60).in_real_seconds(60) == 1
    assert VirtualClock(scale=0).in_real_seconds(60) == 60


def test_instants_are_written_the_way_asana_does() -> None:
    assert timestamp(1329876118.147) == "2012-02-22T02:01:58.147Z"
