"""The pace of one token's calls."""

import asyncio
from datetime import UTC, datetime, timedelta

from app.asana.budget import CallBudget


class FakeClock:
    """Sleeping is what makes its time go."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        await asyncio.sleep(0)


async def test_a_burst_goes_at_once_and_the_rest_at_the_pace() -> None:
    clock = FakeClock()
    budget = CallBudget(clock, per_minute=60, burst=10)
    for _ in range(10):
        await budget.turn()
    assert clock.time == 1000
    for _ in range(30):
        await budget.turn()
    assert 1029 <= clock.time <= 1031


async def test_idle_time_does_not_pile_up_beyond_the_burst() -> None:
    clock = FakeClock()
    budget = CallBudget(clock, per_minute=60, burst=5)
    await budget.turn()
    clock.time += 10_000
    began = clock.time
    for _ in range(15):
        await budget.turn()
    assert clock.time - began >= 9


async def test_no_call_goes_out_while_held() -> None:
    clock = FakeClock()
    budget = CallBudget(clock, per_minute=6000)
    budget.hold_for(90)
    budget.hold_for(10)
    await budget.turn()
    assert clock.time >= 1090
