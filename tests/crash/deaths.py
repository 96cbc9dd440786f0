"""Every story is lived through in good health, and then with a death at each commit that it comes to."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Set

import pytest

from tests.crash.victim import Death, Side

# Lives through a story with the death given, and tells the points that its first process came to.
Story = Callable[[Death | None], Awaitable[list[str]]]
# By default a point is died at in the first story that comes to it.
EVERYWHERE = "CRASH_EVERYWHERE" in os.environ


async def die_everywhere(stories: Mapping[str, Story], commits: Set[str], subtests: pytest.Subtests) -> None:
    """Die before and after all of these commits, none of which may be missing from the stories."""
    met = dict(zip(stories, await asyncio.gather(*(story(None) for story in stories.values())), strict=True))
    reached = {point for points in met.values() for point in points}
    assert not (missed := commits - reached), f"no story comes to {missed}: tell one that does"
    assert not (unknown := reached - commits), (
        f"{unknown} is missing from the points that the code is seen to have"
    )

    cases, died_at = list[tuple[str, Death]](), set[str]()
    for name, points in met.items():
        cases += [
            (name, Death(side, at)) for at in points if EVERYWHERE or at not in died_at for side in Side
        ]
        died_at.update(points)
    lives = (stories[name](death) for name, death in cases)
    for (name, death), outcome in zip(
        cases, await asyncio.gather(*lives, return_exceptions=True), strict=True
    ):
        with subtests.test(f"{name}: death {death}"):
            if isinstance(outcome, BaseException):
                raise outcome
