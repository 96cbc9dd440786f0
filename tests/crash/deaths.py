"""Every story is lived through in good health, and then with a death at each commit that it comes to."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import suppress

import pytest

from tests.crash.victim import Death, Side, Survived

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

    cases = [(Death(side, at), name) for name, points in met.items() for at in points for side in Side]
    if not EVERYWHERE:
        cases = [*{death: (death, name) for death, name in reversed(cases)}.values()]

    async def die(death: Death, name: str) -> None:
        """What is come to by chance in one story, on a busy machine, is come to for sure in another."""
        for other in (name, *(other for other, points in met.items() if death.point in points)):
            with suppress(Survived):
                await stories[other](death)
                return
        raise Survived(death)

    outcomes = await asyncio.gather(*(die(*case) for case in cases), return_exceptions=True)
    for (death, name), outcome in zip(cases, outcomes, strict=True):
        with subtests.test(f"{name}: death {death}"):
            if isinstance(outcome, BaseException):
                raise outcome
