"""The promises hold in whatever order clients, administrators, workers, Asana and time do what they may."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, note, seed
from hypothesis import settings as how
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.access.models import Priority
from app.exports.accept import Submission
from app.exports.models import Status
from app.ids import ExportId
from app.problems import Code
from app.sandbox.control import SandboxControl
from app.sandbox.process import running_sandbox
from app.settings import Settings
from tests.conftest import a_secret_key
from tests.model.promises import Accepted, Promises
from tests.model.stage import Story
from tests.model.world import (
    BEAT_SECONDS,
    GRANTS,
    LEASE_SECONDS,
    WORKSPACES,
    World,
    asked_for,
    open_world,
)

# Another seed, or more examples, for those who have the time.
SEED = int(os.environ.get("MODEL_SEED", "1"))
EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "20"))
MOST_WORKERS = 3
FAULTS: dict[str, dict[str, Any]] = {
    "the answer to a graph export is lost": {"call": "graph", "kind": "drop_after"},
    "the answer to a resource export is lost": {"call": "resource", "kind": "drop_after"},
    "a resource export does not arrive": {"call": "resource", "kind": "drop_before"},
    "a graph export is answered by 500": {"call": "graph", "kind": "status", "status": 500},
    "a resource export is limited": {"call": "resource", "kind": "status", "status": 429, "retry_after": 90},
    "a look is limited": {"call": "job", "kind": "status", "status": 429, "retry_after": 90},
    "a look is answered by 503": {"call": "job", "kind": "status", "status": 503},
    "a job fails": {"call": "job", "kind": "job_fails"},
    "an address is too old": {"call": "job", "kind": "expire_url"},
    "a file is damaged": {"call": "file", "kind": "bitflip"},
    "a file is cut short": {"call": "file", "kind": "truncate"},
}
GIDS = st.sampled_from(sorted(WORKSPACES))
CREDENTIALS = st.sampled_from(sorted(WORKSPACES.values()))
CALLERS = st.sampled_from(sorted(GRANTS))
SUBMISSIONS = st.builds(
    Submission,
    st.builds(asked_for, GIDS, st.sampled_from(["task", "team", "project", "portfolio"])),
    st.sampled_from(Priority),
    max_age=st.sampled_from([0, 0, 3000]),
    queue_ttl=st.sampled_from([None, None, 500]),
)
# One of however many there are.
WHICH = st.integers(0, 5)
SELDOM = st.integers(0, 7).map(lambda number: number == 7)

T = TypeVar("T")


class EveryOrder(RuleBasedStateMachine):
    """What may be done next, by whomever; after each step of a worker all promises are looked at."""

    exports = Bundle("exports")

    def __init__(self, world: World, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        super().__init__()
        self.world = world
        self.run = run
        self.promises = Promises(world)
        self.are_kept = True
        run(world.begin())

    @initialize(target=exports, first=st.lists(st.tuples(CALLERS, SUBMISSIONS), min_size=2, max_size=6))
    def clients_ask_and_a_worker_starts(self, first: list[tuple[str, Submission]]) -> MultipleResults[int]:
        self.run(self.world.start_worker(1))
        return multiple(*(number for caller, wanted in first for number in self._submitted(caller, wanted)))

    # Clients

    @rule(target=exports, caller=CALLERS, all_wanted=st.lists(SUBMISSIONS, min_size=1, max_size=3))
    def submit(self, caller: str, all_wanted: list[Submission]) -> MultipleResults[int]:
        return multiple(*(number for wanted in all_wanted for number in self._submitted(caller, wanted)))

    @rule(target=exports, number=exports)
    def retry(self, number: int) -> MultipleResults[int]:
        wanted = self.run(self.world.again(self._export(number)))
        caller = self.promises.accepted[self._export(number)].caller
        return multiple(*(self._submitted(caller, wanted) if wanted else ()))

    @rule(number=exports)
    def cancel(self, number: int) -> None:
        export = self._export(number)
        end = self.promises.ends.get(export, Status.CANCELING)
        outcome = self.run(self.world.cancel(self.promises.accepted[export].caller, export))
        is_over = end in {Status.SUCCEEDED, Status.FAILED}
        assert outcome in ({Code.NOT_CANCELABLE} if is_over else {Status.CANCELED, end})

    # Administrators

    @rule(workspace=GIDS, act=st.sampled_from([World.pause, World.drain, World.resume, World.resume]))
    def control_lane(self, workspace: str, act: Callable[..., Coroutine[Any, Any, None]]) -> None:
        self.run(act(self.world, workspace))

    @rule(credential=CREDENTIALS)
    def revoke_or_replace_token(self, credential: str) -> None:
        self.run(self.world.revoke_or_replace_token(credential))

    @rule(workspace=GIDS, credential=CREDENTIALS, caller=CALLERS, is_client=SELDOM)
    def change_access(self, workspace: str, credential: str, caller: str, is_client: bool) -> None:
        if is_client:
            self.run(self.world.let_in_or_out(caller))
        elif credential not in self.world.without_token:
            self.run(self.world.open_by(workspace, credential))

    # Asana, and time

    @rule(fault=st.sampled_from(sorted(FAULTS)))
    def something_will_go_wrong(self, fault: str) -> None:
        self.world.sandbox.add_fault(**FAULTS[fault])

    @rule(workspace=GIDS)
    def an_outsider_takes_the_slot_for_a_while(self, workspace: str) -> None:
        self.world.sandbox.hold_slot(workspace, 1000)

    @rule(seconds=st.sampled_from([60, 200, 800, 8000]))
    def time_passes(self, seconds: int) -> None:
        self.run(self.world.pass_time(seconds))

    # Workers

    @precondition(lambda self: len(self.world.living()) < MOST_WORKERS)
    @rule()
    def start_worker(self) -> None:
        taken = {worker.number for worker in self.world.living()}
        self.run(self.world.start_worker(min({1, 2, 3} - taken)))

    @precondition(lambda self: self.world.ready("lane"))
    @rule(which=WHICH, times=st.integers(1, 4), answer_lost=SELDOM)
    def go_on_in_a_lane(self, which: int, times: int, answer_lost: bool) -> None:
        self._go_on(self.world.ready("lane"), which, times, answer_lost)

    @precondition(lambda self: self.world.ready("archive"))
    @rule(which=WHICH, times=st.integers(1, 3), answer_lost=SELDOM)
    def go_on_with_a_file(self, which: int, times: int, answer_lost: bool) -> None:
        self._go_on(self.world.ready("archive"), which, times, answer_lost)

    @precondition(lambda self: self.world.ready("claim", "duty", "leave"))
    @rule(which=WHICH, times=st.integers(1, 3), answer_lost=SELDOM)
    def go_on_otherwise(self, which: int, times: int, answer_lost: bool) -> None:
        self._go_on(self.world.ready("claim", "duty", "leave"), which, times, answer_lost)

    @precondition(lambda self: self.world.living())
    @rule(times=st.integers(5, 30))
    def all_goes_its_way(self, times: int) -> None:
        for turn in range(times):
            note(self.run(self.world.go_on(turn)))
            self.promises_are_kept()
            if not self.world.is_at_work:
                break

    @precondition(lambda self: self.world.living())
    @rule(which=WHICH)
    def tell_the_news(self, which: int) -> None:
        self.run(self.world.tell(_one(self.world.living(), which)))

    @precondition(lambda self: self.world.living())
    @rule(which=WHICH, how=st.sampled_from(["terminated", "killed", "stopped for longer than its lease"]))
    def a_worker_is(self, which: int, how: str) -> None:
        self.run(self.world.end(_one(self.world.living(), which), how))

    @invariant()
    def promises_are_kept(self) -> None:
        self.are_kept = False
        self.run(self.promises.check())
        self.are_kept = True

    def teardown(self) -> None:
        """With one healthy worker, and nobody in its way, all comes to an end."""
        try:
            if self.are_kept:
                self.run(self._bring_all_to_its_end())
        finally:
            self.run(self.world.kill_all())

    async def _bring_all_to_its_end(self) -> None:
        world, promises = self.world, self.promises
        await world.kill_all()
        await world.heal()
        await world.start_worker(4)
        for _ in range(100 + 60 * len(promises.accepted)):
            if await world.is_over():
                break
            await world.go_on(0)
        await promises.check_end()

    def _submitted(self, caller: str, wanted: Submission) -> list[int]:
        """The number of the export, if it is accepted."""
        world, promises, workspace = self.world, self.promises, wanted.request.workspace
        outcome = self.run(world.submit(caller, wanted))
        if world.callers[caller].revoked or (refusal := world.refusal(caller, workspace)):
            assert outcome is None or outcome is refusal
            return []
        credential = world.credentials[world.opened_by[workspace]]
        promises.accepted[outcome] = Accepted(caller, credential, wanted.request)
        return [len(promises.accepted) - 1]

    def _export(self, number: int) -> ExportId:
        return [*self.promises.accepted][number]

    def _go_on(self, stories: list[Story], which: int, times: int, answer_lost: bool) -> None:
        story = _one(stories, which)
        for _ in range(times):
            if story.ready:
                note(f"{story}{', the answer is lost' if answer_lost else ''}")
                self.run(self.world.stage.step(story, answer_lost=answer_lost))
                self.promises_are_kept()
            answer_lost = False


def _one(things: list[T], which: int) -> T:
    return things[which % len(things)]


@pytest.fixture(scope="module")
def frozen_sandbox() -> Iterator[SandboxControl]:
    """An Asana whose time only moves when it is told to."""
    sizes = ("--workspace", "1001:6", "--workspace", "1002:6")
    limits = ("--requests-per-minute", "0", "--concurrent-jobs", "0")
    with running_sandbox("--time-scale", "0", "--run-seconds", "100", "400", *sizes, *limits) as control:
        yield control


@pytest.mark.parametrize("number", [SEED])
def test_the_promises_are_kept_in_every_order(
    frozen_sandbox: SandboxControl, database_url: str, tmp_path: Path, number: int
) -> None:
    # Pauses of a minute and more, so that none ends while the machine is busy.
    settings = Settings(
        database_url=database_url,
        data_dir=tmp_path,
        secret_keys=(a_secret_key(),),
        asana_url=frozen_sandbox.api_url,
        download_hosts=("127.0.0.1",),
        download_allow_http=True,
        lease_seconds=LEASE_SECONDS,
        beat_seconds=BEAT_SECONDS,
        idle_poll_seconds=60,
        poll_min_seconds=60,
        poll_max_seconds=300,
        probe_min_seconds=120,
        probe_max_seconds=600,
        backoff_min_seconds=60,
        max_archives=1,
        asana_calls_per_minute=100_000,
    )
    checked = how(
        max_examples=EXAMPLES,
        stateful_step_count=30,
        print_blob=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner:
        opened = open_world(settings, frozen_sandbox)
        new_world = runner.run(opened.__aenter__())

        @seed(number)
        class Seeded(EveryOrder):
            def __init__(self) -> None:
                super().__init__(new_world(), runner.run)

        try:
            run_state_machine_as_test(Seeded, settings=checked)
        finally:
            runner.run(opened.__aexit__(None, None, None))
