"""A worker is killed right before and right after each of its commits; what it was at ends as it should."""

from functools import partial

import pytest

from app.sandbox.faults import Call, FaultKind
from tests.crash.conftest import World, Worlds
from tests.crash.deaths import die_everywhere
from tests.crash.points import commits
from tests.crash.scenarios import SCENARIOS, Scenario
from tests.crash.victim import Death, Side

IN_HAND = Death(Side.BEFORE, "app.worker.submit._start → submitted")
PUBLISHED = {
    Death(Side.BEFORE, "app.worker.archive._keep → archived"),
    Death(Side.BEFORE, "app.worker.convert._keep → converted"),
}
# With one run a worker does these one after the other; at all other times it may be in the middle of any.
STORY = ("app.worker.lane.", "app.worker.submit.", "app.worker.poll.", "app.worker.archive.")


async def test_a_worker_may_die_at_any_commit(worlds: Worlds, subtests: pytest.Subtests) -> None:
    stories = {scenario.name: partial(lived_through, worlds, scenario) for scenario in SCENARIOS}
    await die_everywhere(stories, {at for at in commits() if at.startswith("app.worker.")}, subtests)


async def lived_through(worlds: Worlds, scenario: Scenario, death: Death | None) -> list[str]:
    async with worlds.new(duties=scenario.duties, **scenario.env) as world:
        async with world.kept_alive("worker", death):
            await scenario.tell(world)
        await assert_little_is_lost(world, death)
        if not scenario.contested and not await world.lost_jobs():
            assert 403 not in [entry.status for entry in world.calls(Call.RESOURCE)]
        return world.lives[0].commits()


async def assert_little_is_lost(world: World, death: Death | None) -> None:
    """One job that Asana has started, one file that was published: where it dies before it could record that,
    and nowhere else."""
    unseen = sum(entry.fault is FaultKind.DROP_AFTER for entry in world.calls(Call.RESOURCE))
    anywhere = death and (not death.point.startswith(STORY) or await world.count_runs() > 1)
    jobs, files = await world.lost_jobs(), await world.orphaned_files()
    assert len(jobs) <= unseen + bool(anywhere or death == IN_HAND), f"these jobs were lost: {jobs}"
    assert len(files) <= bool(anywhere or death in PUBLISHED), f"these files are nobody's: {files}"
    for gid in world.tenants:
        assert world.sandbox.stats().workspaces[gid].max_in_progress <= 1
