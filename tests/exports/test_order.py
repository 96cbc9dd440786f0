"""Who goes next: the predicted order is the order that happens."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientSpec, GrantSpec, create_client
from app.access.models import Client, Priority, Scope
from app.access.vault import Vault
from app.events.log import Cause
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Run, Status
from app.exports.order import count_ahead, positions, promote
from app.exports.plan import plan
from app.exports.requests import GraphRequest
from app.exports.runs import next_run
from app.exports.states import change, locked_run
from app.ids import RunId, new_worker_id
from app.lanes.claim import claim_lanes
from app.lanes.lease import register_worker
from tests.builders import Tenant, a_tenant

Sessions = async_sessionmaker[AsyncSession]
DAY = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


async def a_client(sessions: Sessions, name: str) -> Client:
    grant = GrantSpec(highest_priority=Priority.URGENT)
    spec = ClientSpec(name=name, scopes=(Scope.EXPORTS_WRITE,), grants=(grant,))
    async with sessions.begin() as session:
        return (await create_client(session, spec, Cause("test")))[0]


parents = iter(range(1, 10**9))


def a_wish(priority: Priority = Priority.NORMAL, deliver_by: datetime | None = None) -> Submission:
    request = GraphRequest(workspace="1001", parent=str(next(parents)))
    return Submission(request, priority, deliver_by=deliver_by)


async def asked(sessions: Sessions, client: Client, wanted: Submission) -> RunId:
    async with sessions.begin() as session:
        return (await accept(session, client, wanted, Rules())).run


async def served(sessions: Sessions) -> list[RunId]:
    """The order in which a worker takes all that is queued."""
    worker, order = new_worker_id(), list[RunId]()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", 60)
        lanes = await claim_lanes(session, worker, 10)
    for lane in lanes:
        while True:
            async with sessions.begin() as session:
                if (run := await next_run(session, lane, credential_wait=60)) is None:
                    break
                order.append(run.id)
                await change(session, await locked_run(session, run.id), Status.FAILED, actor="test")
    return order


async def test_classes_deadlines_clients_in_turn_and_first_come(sessions: Sessions, tenant: Tenant) -> None:
    one, other = await a_client(sessions, "one"), await a_client(sessions, "other")
    low = await asked(sessions, one, a_wish(Priority.LOW, DAY))
    first, second, third = [await asked(sessions, one, a_wish()) for _ in range(3)]
    others = [await asked(sessions, other, a_wish()) for _ in range(2)]
    late = await asked(sessions, other, a_wish(deliver_by=DAY + timedelta(days=1)))
    soon = await asked(sessions, one, a_wish(deliver_by=DAY))
    urgent = await asked(sessions, other, a_wish(Priority.URGENT))
    assert await served(sessions) == [
        urgent,
        soon,
        late,
        first,
        others[0],
        second,
        others[1],
        third,
        low,
    ]


async def test_who_comes_later_does_not_wait_behind_all_of_a_busy_client(
    sessions: Sessions, tenant: Tenant
) -> None:
    busy, quiet = await a_client(sessions, "busy"), await a_client(sessions, "quiet")
    flood = [await asked(sessions, busy, a_wish()) for _ in range(10)]
    worker = new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", 60)
        (lane,) = await claim_lanes(session, worker, 1)
    for _ in range(4):
        async with sessions.begin() as session:
            run = await next_run(session, lane, credential_wait=60)
            assert run is not None
            await change(session, await locked_run(session, run.id), Status.FAILED, actor="test")
    late = await asked(sessions, quiet, a_wish())
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET holder = NULL"))
    order = await served(sessions)
    assert order.index(late) <= 1
    assert [run for run in order if run != late] == flood[4:]


async def test_a_deadline_does_not_set_others_back(sessions: Sessions, tenant: Tenant) -> None:
    """Who comes after it started is not behind all that its client had queued before."""
    busy, quiet = await a_client(sessions, "busy"), await a_client(sessions, "quiet")
    flood = [await asked(sessions, busy, a_wish()) for _ in range(10)]
    urgent = await asked(sessions, busy, a_wish(deliver_by=DAY))
    worker = new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", 60)
        (lane,) = await claim_lanes(session, worker, 1)
        run = await next_run(session, lane, credential_wait=60)
        assert run is not None
        assert run.id == urgent
        await change(session, run, Status.FAILED, actor="test")
    late = await asked(sessions, quiet, a_wish())
    async with sessions.begin() as session:
        await session.execute(text("UPDATE lanes SET holder = NULL"))
    assert (await served(sessions)).index(late) == 1
    assert len(flood) == 10


async def test_those_that_rise_do_not_all_go_before_others(sessions: Sessions, tenant: Tenant) -> None:
    busy, quiet = await a_client(sessions, "busy"), await a_client(sessions, "quiet")
    risen = [await asked(sessions, busy, a_wish(Priority.LOW)) for _ in range(5)]
    others = [await asked(sessions, quiet, a_wish()) for _ in range(2)]
    async with sessions.begin() as session:
        await session.execute(text("UPDATE runs SET promotes_at = now() WHERE rank = 3"))
        assert await promote(session, 100) == 5
    order = await served(sessions)
    assert order[:4] == [risen[0], others[0], risen[1], others[1]]


async def test_who_rises_one_by_one_gains_nothing_by_that(sessions: Sessions, tenant: Tenant) -> None:
    busy, quiet = await a_client(sessions, "busy"), await a_client(sessions, "quiet")
    risen = [await asked(sessions, busy, a_wish(Priority.LOW)) for _ in range(4)]
    others = [await asked(sessions, quiet, a_wish()) for _ in range(3)]
    for run in risen:
        async with sessions.begin() as session:
            await session.execute(text("UPDATE runs SET promotes_at = now() WHERE id = :id"), {"id": run})
            assert await promote(session, 100) == 1
    order = await served(sessions)
    assert order == [risen[0], others[0], risen[1], others[1], risen[2], others[2], risen[3]]


async def test_waiting_runs_rise_a_class_every_two_hours(sessions: Sessions, tenant: Tenant) -> None:
    low = await asked(sessions, tenant.client, a_wish(Priority.LOW))
    normal = await asked(sessions, tenant.client, a_wish())
    earlier = text(
        "UPDATE runs SET queued_at = queued_at - interval '3 hours', "
        "promotes_at = promotes_at - interval '3 hours' WHERE id = :id"
    )
    async with sessions.begin() as session:
        await session.execute(earlier, {"id": low})
        assert await promote(session, 100) == 1
        assert await promote(session, 100) == 0
        run = await session.get_one(Run, low)
        assert run.rank == Priority.NORMAL.rank
        assert run.promotes_at == run.queued_at + timedelta(hours=4)
    # In the class of the other, it has the later turn, though it waits for longer.
    high = await asked(sessions, tenant.client, a_wish(Priority.HIGH))
    assert await served(sessions) == [high, low, normal]


async def test_the_highest_class_is_the_end(sessions: Sessions, tenant: Tenant) -> None:
    run_id = await asked(sessions, tenant.client, a_wish(Priority.LOW))
    async with sessions.begin() as session:
        await session.execute(text("UPDATE runs SET promotes_at = promotes_at - interval '3 days'"))
        assert [await promote(session, 10) for _ in range(4)] == [1, 1, 1, 0]
        run = await session.get_one(Run, run_id)
        assert (run.rank, run.promotes_at) == (0, None)


wishes = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(Priority),
        st.none() | st.integers(0, 3).map(lambda days: DAY + timedelta(days=days)),
    ),
    min_size=1,
    max_size=12,
)


@given(wishes=wishes)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_predicted_order_is_the_order_that_happens(
    sessions: Sessions, tenant: Tenant, wishes: Sequence[tuple[int, Priority, datetime | None]]
) -> None:
    names = [f"client {next(parents)}" for _ in range(3)]
    clients = [await a_client(sessions, name) for name in names]
    runs, planned = [], []
    for client, priority, deliver_by in wishes:
        wanted = a_wish(priority, deliver_by)
        async with sessions() as session:
            planned.append((await plan(session, clients[client], wanted, Rules())).ahead)
        runs.append(await asked(sessions, clients[client], wanted))
        async with sessions() as session:
            assert await count_ahead(session, await session.get_one(Run, runs[-1])) == planned[-1]
    async with sessions() as session:
        queued = [await session.get_one(Run, run) for run in runs]
        predicted = await positions(session, queued)
        one_by_one = {run.id: await count_ahead(session, run) for run in queued}
    assert predicted == one_by_one
    assert await served(sessions) == sorted(runs, key=lambda run: predicted[run])
