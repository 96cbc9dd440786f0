"""Canceling, at every point of a run's life."""

import asyncio
from collections import Counter

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.exports.cancel import cancel
from app.exports.models import Export, Phase, Run, Status
from app.exports.states import FINAL, IllegalChange, change, locked_run
from app.ids import RunId, new_export_id
from app.lanes.enqueue import lock_lane
from app.problems import Code, ProblemError
from tests.builders import a_tenant, an_export
from tests.locks import until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def export(sessions: Sessions, vault: Vault) -> Export:
    async with sessions.begin() as session:
        return await an_export(session, await a_tenant(session, vault))


async def brought_to(sessions: Sessions, run_id: RunId, *path: Status) -> None:
    async with sessions.begin() as session:
        run = await locked_run(session, run_id)
        for status in path:
            phase = Phase.POLLING if status is Status.RUNNING else None
            await change(session, run, status, actor="test", phase=phase)


async def canceled(sessions: Sessions, export: Export) -> Export:
    async with sessions.begin() as session:
        return await cancel(session, export.id, actor="client:test", request_id="r1")


async def sharing(sessions: Sessions, export: Export) -> Export:
    async with sessions.begin() as session:
        other = Export(
            id=new_export_id(),
            client=export.client,
            run=export.run,
            kind=export.kind,
            workspace=export.workspace,
            lane=export.lane,
            status=(await session.get_one(Run, export.run)).status,
            priority=export.priority,
            request=export.request,
        )
        session.add(other)
        return other


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ((), Status.CANCELED),
        ((Status.RUNNING,), Status.CANCELING),
        ((Status.RUNNING, Status.ARCHIVING), Status.CANCELED),
    ],
)
async def test_the_last_export_takes_its_run_along(
    sessions: Sessions, export: Export, path: tuple[Status, ...], outcome: Status
) -> None:
    await brought_to(sessions, export.run, *path)
    assert (await canceled(sessions, export)).status is outcome
    assert (await canceled(sessions, export)).status is outcome
    async with sessions() as session:
        assert (await session.get_one(Run, export.run)).status is outcome


@pytest.mark.parametrize("path", [(), (Status.RUNNING,), (Status.RUNNING, Status.ARCHIVING)])
async def test_an_export_that_shares_its_run_only_leaves_it(
    sessions: Sessions, export: Export, path: tuple[Status, ...]
) -> None:
    await brought_to(sessions, export.run, *path)
    other = await sharing(sessions, export)
    assert (await canceled(sessions, export)).status is Status.CANCELED
    async with sessions() as session:
        assert (await session.get_one(Run, export.run)).status not in FINAL
        assert (await session.get_one(Export, other.id)).status not in FINAL


@pytest.mark.parametrize("end", [(Status.FAILED,), (Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)])
async def test_what_has_ended_is_not_cancelable(
    sessions: Sessions, export: Export, end: tuple[Status, ...]
) -> None:
    await brought_to(sessions, export.run, *end)
    with pytest.raises(ProblemError) as refused:
        await canceled(sessions, export)
    assert refused.value.problem.code is Code.NOT_CANCELABLE


async def test_cancel_and_success_race_to_one_outcome(sessions: Sessions, vault: Vault) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    places, outcomes = asyncio.Semaphore(4), Counter[Status]()

    async def race(number: int) -> None:
        async with places:
            async with sessions.begin() as session:
                export = await an_export(session, tenant)
                run = await locked_run(session, export.run)
                # As if Asana had done it: the slot is not what this is about.
                run.status = Status.ARCHIVING
                export.status = Status.ARCHIVING

            async def succeed() -> None:
                # Cancel asks more before it locks the run: so each comes first now and then.
                await asyncio.sleep(0.02 * number / 1000)
                async with sessions.begin() as session:
                    await change(session, await locked_run(session, run.id), Status.SUCCEEDED, actor="test")

            results = await asyncio.gather(canceled(sessions, export), succeed(), return_exceptions=True)
            async with sessions() as session:
                after = await session.get_one(Export, export.id)
                ended = await session.get_one(Run, export.run)
        lost = [result for result in results if isinstance(result, BaseException)]
        assert len(lost) == 1
        assert isinstance(lost[0], ProblemError | IllegalChange)
        assert after.status is ended.status
        outcomes[after.status] += 1

    await asyncio.gather(*map(race, range(1000)))
    assert outcomes.keys() == {Status.SUCCEEDED, Status.CANCELED}
    assert outcomes.total() == 1000


async def test_a_success_that_is_being_committed_is_not_canceled(sessions: Sessions, export: Export) -> None:
    await brought_to(sessions, export.run, Status.RUNNING, Status.ARCHIVING)
    async with sessions.begin() as session:
        await change(session, await locked_run(session, export.run), Status.SUCCEEDED, actor="worker")
        canceling = asyncio.create_task(canceled(sessions, export))
        await until_somebody_waits(sessions)
    with pytest.raises(ProblemError) as refused:
        await canceling
    assert refused.value.problem.code is Code.NOT_CANCELABLE


async def test_cancel_sees_the_run_as_it_is_behind_the_lock(sessions: Sessions, export: Export) -> None:
    """A worker takes the run while cancel waits for it."""
    async with sessions.begin() as session:
        run = await session.get_one(Run, export.run)
        await lock_lane(session, run.lane)
        canceling = asyncio.create_task(canceled(sessions, export))
        await asyncio.sleep(0.2)
        run = await locked_run(session, run.id)
        await change(session, run, Status.RUNNING, actor="worker", phase=Phase.SUBMITTING)
    assert (await canceling).status is Status.CANCELING
