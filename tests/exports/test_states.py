"""What a run may become, and that the exports that share it hear of it."""

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.events.log import Event
from app.exports.models import Export, Phase, Run, Status
from app.exports.states import FINAL, MAY_BECOME, IllegalChange, change, locked_run
from app.problems import Code, Problem
from tests.builders import a_tenant, an_export

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def run_id(sessions: Sessions, vault: Vault) -> str:
    async with sessions.begin() as session:
        return (await an_export(session, await a_tenant(session, vault))).run


async def brought_to(session: AsyncSession, run_id: str, *path: Status) -> Run:
    run = await session.get_one(Run, run_id)
    for status in path:
        await change(session, run, status, actor="test", phase=_phase(status))
    return run


def _phase(status: Status) -> Phase | None:
    return Phase.POLLING if status in {Status.RUNNING, Status.CANCELING} else None


def test_every_status_has_its_place_in_the_machine() -> None:
    assert set(MAY_BECOME) == set(Status)
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELED} == FINAL


PATHS = {
    Status.QUEUED: (),
    Status.RUNNING: (Status.RUNNING,),
    Status.CANCELING: (Status.RUNNING, Status.CANCELING),
    Status.ARCHIVING: (Status.RUNNING, Status.ARCHIVING),
    Status.SUCCEEDED: (Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED),
    Status.FAILED: (Status.FAILED,),
    Status.CANCELED: (Status.CANCELED,),
}


@pytest.mark.parametrize("to", Status)
@pytest.mark.parametrize("status", Status)
async def test_a_run_becomes_only_what_it_may(
    sessions: Sessions, run_id: str, status: Status, to: Status
) -> None:
    async with sessions.begin() as session:
        run = await brought_to(session, run_id, *PATHS[status])
        if to is status or to in MAY_BECOME[status]:
            await change(session, run, to, actor="test", phase=_phase(to))
            assert run.status is to
        else:
            with pytest.raises(IllegalChange):
                await change(session, run, to, actor="test", phase=_phase(to))


async def test_a_change_reaches_the_export_with_its_event_and_a_new_version(
    sessions: Sessions, run_id: str
) -> None:
    async with sessions.begin() as session:
        run = await brought_to(session, run_id, Status.RUNNING)
        problem = Problem(Code.UPSTREAM_FAILED, "no reason")
        await change(session, run, Status.FAILED, actor="worker", problem=problem)
    async with sessions() as session:
        export = (await session.scalars(select(Export).where(Export.run == run_id))).one()
        of_run = select(Event).where(Event.run == run_id).order_by(Event.seq)
        events = (await session.scalars(of_run)).all()
    assert (export.status, export.version) == (Status.FAILED, 3)
    assert export.error is not None
    assert export.error["code"] == "upstream-failed"
    assert export.started_at is not None
    assert export.finished_at is not None
    assert [event.type for event in events] == ["export.created", "export.started", "export.failed"]
    assert events[-1].data["version"] == 3


async def test_a_final_export_is_not_touched_by_what_becomes_of_its_run(
    sessions: Sessions, run_id: str
) -> None:
    async with sessions.begin() as session:
        export = (await session.scalars(select(Export).where(Export.run == run_id))).one()
        export.status, export.finished_at = Status.CANCELED, export.created_at
        await session.flush()
        await brought_to(session, run_id, Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)
    async with sessions() as session:
        assert (await session.get_one(Export, export.id)).status is Status.CANCELED


async def test_a_locked_run_is_shown_as_it_is_behind_the_lock(sessions: Sessions, run_id: str) -> None:
    async with sessions.begin() as session:
        known = await session.get_one(Run, run_id)
        async with sessions.begin() as other:
            await brought_to(other, run_id, Status.RUNNING)
        assert known.status is Status.QUEUED
        assert (await locked_run(session, run_id)).status is Status.RUNNING
