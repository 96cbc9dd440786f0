"""A seed says all of what befalls."""

from collections import Counter

from tests.chaos.schedule import Victim, schedule


def test_the_same_seed_is_the_same_schedule() -> None:
    assert schedule(7, 300, 3, 2) == schedule(7, 300, 3, 2)
    assert schedule(7, 300, 3, 2) != schedule(8, 300, 3, 2)


def test_everything_befalls_everybody_in_order_and_in_time() -> None:
    blows = schedule(7, 3600, 3, 2)
    assert [blow.at for blow in blows] == sorted(blow.at for blow in blows)
    assert blows[-1].at < 3600
    hit = Counter((blow.victim, blow.target) for blow in blows)
    for victim in Victim:
        processes = 3 if victim.startswith("worker") else 2 if victim.startswith("API") else 1
        assert all(hit[victim, target] for target in range(processes))
