"""The steps by which a file is kept, and what may come between them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import undefer

from app.artifacts.models import Artifact
from app.exports.models import Run, Status
from app.exports.runs import HeldArchive
from app.exports.states import change, locked_run
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.worker.archive import Archiving
from app.worker.context import Context
from tests.builders import Tenant, an_export
from tests.locks import until_somebody_waits
from tests.processes import until
from tests.stores import folder_of
from tests.worker.conftest import ended_well

Sessions = async_sessionmaker[AsyncSession]


@dataclass
class Recording:
    """A worker has the file and is about to record it, but somebody has locked the run."""

    session: AsyncSession
    run: Run
    task: asyncio.Task[None]


Recordings = Callable[[], AbstractAsyncContextManager[Recording]]


@pytest.fixture
async def archive(ctx: Context, sessions: Sessions, tenant: Tenant) -> HeldArchive:
    """Its job has ended well."""
    async with sessions.begin() as session:
        await an_export(session, tenant)
    return await ended_well(ctx)


@pytest.fixture
def recording(ctx: Context, sessions: Sessions, sandbox: SandboxControl, archive: HeldArchive) -> Recordings:
    @asynccontextmanager
    async def about_to_be_recorded() -> AsyncIterator[Recording]:
        sandbox.add_fault(Call.FILE, FaultKind.DELAY, delay=3)
        task = started(ctx, archive)

        async def asked() -> bool | None:
            return not sandbox.faults() or None

        await until(asked, 20, lambda: "a request for the file")
        async with sessions.begin() as session:
            run = await locked_run(session, archive.run)
            await until_somebody_waits(sessions)
            yield Recording(session, run, task)
        await asyncio.wait({task})

    return about_to_be_recorded


def started(ctx: Context, archive: HeldArchive) -> asyncio.Task[None]:
    archiving = Archiving(ctx)
    archiving.start(archive)
    (task,) = archiving.tasks
    return task


def files(ctx: Context) -> list[Path]:
    return [path for path in folder_of(ctx.settings).glob("1001/*") if path.is_file()]


async def run_of(sessions: Sessions, archive: HeldArchive) -> Run:
    async with sessions() as session:
        return await session.get_one(Run, archive.run)


async def test_the_file_is_there_before_it_is_recorded(
    ctx: Context, sessions: Sessions, archive: HeldArchive, recording: Recordings
) -> None:
    async with recording():
        assert len(files(ctx)) == 1
    assert (await run_of(sessions, archive)).status is Status.SUCCEEDED


async def test_what_was_found_in_the_file_is_kept(
    ctx: Context, sessions: Sessions, archive: HeldArchive
) -> None:
    await asyncio.wait({started(ctx, archive)})
    async with sessions() as session:
        artifact = (await session.scalars(select(Artifact).options(undefer(Artifact.key_paths)))).one()
    assert artifact.by_type == {"task": artifact.lines}
    assert artifact.duplicate_gids == 0
    assert artifact.key_paths is not None
    assert {"gid", "assignee.gid", "custom_fields[].enum_value.name"} <= set(artifact.key_paths["task"])


async def test_a_worker_told_to_stop_records_the_file_it_has_published(
    ctx: Context, sessions: Sessions, archive: HeldArchive, recording: Recordings
) -> None:
    async with recording() as held:
        held.task.cancel()
    assert (await run_of(sessions, archive)).status is Status.SUCCEEDED
    assert len(files(ctx)) == 1


async def test_a_file_that_nobody_wants_any_more_is_deleted(ctx: Context, recording: Recordings) -> None:
    async with recording() as held:
        await change(held.session, held.run, Status.CANCELED, actor="test")
    assert files(ctx) == []


async def test_a_file_that_three_workers_were_lost_with_is_not_fetched(
    ctx: Context, sessions: Sessions, sandbox: SandboxControl, archive: HeldArchive
) -> None:
    await asyncio.wait({started(ctx, replace(archive, lost=3))})
    error = (await run_of(sessions, archive)).error
    assert error is not None
    assert error["code"] == "poison"
    assert sandbox.journal(call=Call.FILE) == []
