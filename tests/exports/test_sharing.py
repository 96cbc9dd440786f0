"""The same work is not done twice for those who may see the same, and is not shared with anybody else."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Credential, Priority, Workspace
from app.access.vault import Vault
from app.events.log import Event
from app.exports.accept import Rules, Submission, accept
from app.exports.cancel import cancel
from app.exports.models import Export, Phase, Run, Status
from app.exports.requests import ExportRequest, GraphRequest, ResourceRequest
from app.exports.runs import HeldArchive, archived
from app.exports.states import LIVE, change, locked_run
from app.ids import CredentialId, new_worker_id
from app.lanes.lease import register_worker
from tests.builders import Tenant, a_tenant, an_artifact
from tests.locks import until_it_waits

Sessions = async_sessionmaker[AsyncSession]

TASKS = ResourceRequest.model_validate(
    {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}
)
PROJECT = GraphRequest(workspace="1001", parent="1")


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


async def asked(
    sessions: Sessions,
    tenant: Tenant,
    request: ExportRequest = TASKS,
    *,
    max_age: int = 0,
    priority: Priority = Priority.NORMAL,
    deliver_by: datetime | None = None,
) -> Export:
    wanted = Submission(request, priority, max_age=max_age, deliver_by=deliver_by)
    async with sessions.begin() as session:
        return await accept(session, tenant.client, wanted, Rules())


async def brought_to(sessions: Sessions, export: Export, *path: Status, ago: int = 0) -> None:
    async with sessions.begin() as session:
        run = await locked_run(session, export.run)
        worker = new_worker_id()
        await register_worker(session, worker, "test", 60)
        for status in path:
            if status is Status.SUCCEEDED:
                run.archiver = worker
                await session.flush()
                archive = HeldArchive(run.id, worker, run.archive_fence)
                await archived(session, archive, an_artifact(archive), [])
                continue
            phase = Phase.POLLING if status in LIVE else None
            began = func.now() - timedelta(seconds=ago)
            await change(session, run, status, actor="test", phase=phase, submitted_at=began)


AT_WORK = (Status.RUNNING,), (Status.RUNNING, Status.ARCHIVING)
DONE = (Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)


async def test_equal_requests_that_wait_share_one_run(sessions: Sessions, tenant: Tenant) -> None:
    first, second = await asked(sessions, tenant), await asked(sessions, tenant)
    other = await asked(sessions, tenant, PROJECT)
    assert first.id != second.id
    assert first.run == second.run != other.run


async def test_an_equal_request_waits_for_one_that_is_being_accepted(
    sessions: Sessions, tenant: Tenant
) -> None:
    await asked(sessions, tenant, PROJECT)
    async with sessions.begin() as session:
        first = await accept(session, tenant.client, Submission(TASKS), Rules())
        asking = asyncio.create_task(asked(sessions, tenant))
        await until_it_waits(sessions, asking)
    assert (await asking).run == first.run


async def test_fifty_equal_requests_in_the_same_moment_make_one_run(
    sessions: Sessions, tenant: Tenant
) -> None:
    exports = await asyncio.gather(*(asked(sessions, tenant) for _ in range(50)))
    assert len({export.id for export in exports}) == 50
    assert len({export.run for export in exports}) == 1


@pytest.mark.parametrize("path", [*AT_WORK, DONE])
async def test_a_run_that_has_begun_is_shared_by_those_who_take_older_data(
    sessions: Sessions, tenant: Tenant, path: tuple[Status, ...]
) -> None:
    first = await asked(sessions, tenant)
    await brought_to(sessions, first, *path, ago=100)
    joined = await asked(sessions, tenant, max_age=200)
    assert (joined.run, joined.status, joined.version) == (first.run, path[-1], 2)
    assert (joined.finished_at is not None) is (path == DONE)
    for max_age in (0, 50):
        assert (await asked(sessions, tenant, max_age=max_age)).run != first.run
    async with sessions() as session:
        story = await session.scalars(select(Event.type).where(Event.export == joined.id).order_by(Event.seq))
        last = {Status.RUNNING: "started", Status.ARCHIVING: "progressed", Status.SUCCEEDED: "succeeded"}
        assert list(story) == ["export.created", f"export.{last[path[-1]]}"]


@pytest.mark.parametrize(
    "path", [(Status.RUNNING, Status.FAILED), (Status.CANCELED,), (Status.RUNNING, Status.CANCELING)]
)
async def test_what_has_failed_or_was_canceled_is_not_shared(
    sessions: Sessions, tenant: Tenant, path: tuple[Status, ...]
) -> None:
    first = await asked(sessions, tenant)
    await brought_to(sessions, first, *path)
    assert (await asked(sessions, tenant, max_age=3600)).run != first.run


async def test_a_file_that_is_gone_is_not_shared(sessions: Sessions, tenant: Tenant) -> None:
    first = await asked(sessions, tenant)
    await brought_to(sessions, first, *DONE)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET expires_at = now()"))
    assert (await asked(sessions, tenant, max_age=3600)).run != first.run


async def test_data_from_asanas_cache_is_as_old_as_it_says(sessions: Sessions, tenant: Tenant) -> None:
    first = await asked(sessions, tenant, PROJECT)
    await brought_to(sessions, first, *DONE)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE runs SET data_from = now() - interval '3 hours'"))
    assert (await asked(sessions, tenant, PROJECT, max_age=3600)).run != first.run
    assert (await asked(sessions, tenant, PROJECT, max_age=4 * 3600)).run == first.run


async def test_nothing_is_shared_across_credentials_or_accounts(
    sessions: Sessions, vault: Vault, tenant: Tenant
) -> None:
    first = await asked(sessions, tenant)
    await brought_to(sessions, first, *DONE)
    async with sessions.begin() as session:
        (await session.get_one(Credential, tenant.credential)).asana_user = "another account"
    assert (await asked(sessions, tenant, max_age=3600)).run != first.run
    async with sessions.begin() as session:
        (await session.get_one(Credential, tenant.credential)).asana_user = "1"
        other = await a_tenant(session, vault, "1002")
        (await session.get_one(Workspace, "1001")).credential = CredentialId(other.credential)
    assert (await asked(sessions, tenant, max_age=3600)).run != first.run


async def test_a_run_stands_where_its_most_urgent_member_would(sessions: Sessions, tenant: Tenant) -> None:
    """And steps back when that one leaves."""
    soon = datetime(2030, 1, 1, tzinfo=UTC)

    async def stands(export: Export) -> tuple[int, float]:
        async with sessions() as session:
            run = await session.get_one(Run, export.run)
            return run.rank, run.due

    low = await asked(sessions, tenant, priority=Priority.LOW)
    assert await stands(low) == (3, float("inf"))
    urgent = await asked(sessions, tenant, priority=Priority.HIGH, deliver_by=soon)
    assert urgent.run == low.run
    assert await stands(low) == (1, soon.timestamp())
    async with sessions.begin() as session:
        await cancel(session, urgent.id, actor="test", request_id=None)
    assert await stands(low) == (3, float("inf"))


async def test_leaving_a_shared_run_lets_it_go_on_for_the_others(sessions: Sessions, tenant: Tenant) -> None:
    one, other = await asked(sessions, tenant), await asked(sessions, tenant)
    await brought_to(sessions, one, Status.RUNNING)
    async with sessions.begin() as session:
        assert (await cancel(session, one.id, actor="test", request_id=None)).status is Status.CANCELED
    async with sessions.begin() as session:
        assert (await session.get_one(Run, other.run)).status is Status.RUNNING
        assert (await cancel(session, other.id, actor="test", request_id=None)).status is Status.CANCELING


users = st.lists(st.integers(1, 9).map(str), min_size=1, max_size=4)
items = st.fixed_dictionaries(
    {"resource_type": st.just("task")},
    optional={
        "filters": st.fixed_dictionaries({}, optional={"assignee.any": users, "followers.any": users}),
        "fields": st.lists(st.sampled_from(["gid", "name", "notes"]), min_size=1, max_size=3),
    },
)


def request(listed: list[dict[str, object]]) -> ResourceRequest:
    return ResourceRequest.model_validate({"workspace": "1", "export_request_parameters": listed})


@given(st.lists(items, min_size=1, max_size=3), st.randoms())
def test_the_order_in_which_something_is_asked_for_makes_no_difference(
    listed: list[dict[str, object]], random: object
) -> None:
    def shuffled(value: object) -> object:
        if isinstance(value, dict):
            return {name: shuffled(part) for name, part in value.items()}
        if isinstance(value, list):
            mixed = [shuffled(part) for part in value] + value[:1] * isinstance(value[0], str)
            random.shuffle(mixed)  # type: ignore[attr-defined]
            return mixed
        return value

    again = request(shuffled(listed))  # type: ignore[arg-type]
    assert again.canonical() == request(listed).canonical()
    assert again.shape() == request(listed).shape()


def test_what_asks_for_something_else_is_told_apart() -> None:
    asked_for: list[list[dict[str, object]]] = [
        [{"resource_type": "task"}],
        [{"resource_type": "team"}],
        [{"resource_type": "task"}, {"resource_type": "team"}],
        [{"resource_type": "task", "fields": ["gid"]}],
        [{"resource_type": "task", "filters": {"assignee.any": ["1"]}}],
        [{"resource_type": "task", "filters": {"followers.any": ["1"]}}],
    ]
    canonical = [str(request(listed).canonical()) for listed in asked_for]
    assert len(set(canonical)) == len(asked_for)
    assert len({request(listed).shape() for listed in asked_for}) == len(asked_for)
