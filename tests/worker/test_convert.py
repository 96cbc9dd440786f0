"""A conversion as workers see it: claimed, made, recorded, and what may come between these steps."""

import asyncio
import gzip
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.artifacts.models import Artifact, Conversion, ConversionState, OutputFile
from app.artifacts.outputs import Format
from app.database.base import BigInt
from app.events.log import Cause, Event, EventType
from app.exports.conversions import (
    ConversionLost,
    HeldConversion,
    claim_conversion,
    conversion_failed,
    converted,
    put_back,
)
from app.exports.models import Run, Status
from app.exports.outputs import ask_for_conversion, lock_kept
from app.exports.runs import HeldArchive
from app.exports.states import change, locked_run
from app.ids import new_worker_id
from app.lanes.lease import register_worker
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.convert import MOST_FAILURES, convert, convert_all
from tests.builders import Tenant, an_artifact, an_export, deleted
from tests.locks import until_somebody_waits
from tests.stores import folder_of
from tests.worker.conftest import crashes

Sessions = async_sessionmaker[AsyncSession]
LEASES_END = text("UPDATE workers SET lease_expires_at = now() - interval '1 second'")
ROWS = [
    {"gid": "1", "resource_type": "task", "created_at": "2026-01-02T03:04:05.678Z"},
    {"gid": "2", "resource_type": "team"},
    {"gid": "3", "resource_type": "task", "created_at": None},
]


@pytest.fixture
async def artifact(ctx: Context, sessions: Sessions, tenant: Tenant) -> Artifact:
    """An archived file, in whose store it is."""
    content = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    async with sessions.begin() as session:
        export = await an_export(session, tenant)
        run = await locked_run(session, export.run)
        for status in (Status.RUNNING, Status.ARCHIVING):
            phase: Any = "submitting" if status is Status.RUNNING else None
            await change(session, run, status, actor="test", phase=phase)
        made = an_artifact(HeldArchive(run.id, ctx.lease.worker, 1))
        made.bytes = BigInt(len(content))
        session.add(made)
        await change(session, run, Status.SUCCEEDED, actor="test")
    await register(ctx)
    async with ctx.store.writer(made.key) as writer:
        await writer.write(content)
        await writer.publish()
    return made


async def register(ctx: Context) -> None:
    await ctx.write(register_worker, ctx.lease.worker, "test", 600)


async def asked(ctx: Context, tenant: Tenant, artifact: Artifact, form: Format = Format.PARQUET) -> None:
    await ctx.write(ask_for_conversion, tenant.client, artifact.id, form, Cause("test"))


async def claimed(ctx: Context) -> HeldConversion:
    held = await ctx.write(claim_conversion, ctx.lease.worker)
    assert held
    return held


async def conversion_in(
    sessions: Sessions, artifact: Artifact, form: Format = Format.PARQUET
) -> tuple[Conversion, list[OutputFile]]:
    async with sessions() as session:
        conversion = await session.get_one(Conversion, (artifact.id, form))
        files = select(OutputFile).where(OutputFile.artifact == artifact.id, OutputFile.format == form)
        return conversion, list(await session.scalars(files.order_by(OutputFile.resource_type)))


async def error_of(sessions: Sessions, artifact: Artifact) -> tuple[ConversionState, str | None]:
    conversion, files = await conversion_in(sessions, artifact)
    assert not files
    return conversion.state, (conversion.error or {}).get("code")


def stored(ctx: Context) -> set[str]:
    folder = folder_of(ctx.settings)
    return {path.relative_to(folder).as_posix() for path in folder.glob("1001/*")}


async def events(sessions: Sessions) -> list[tuple[str, dict[str, Any]]]:
    async with sessions() as session:
        about = select(Event).where(Event.type.like("artifact.%")).order_by(Event.seq)
        return [(event.type, event.data) for event in await session.scalars(about)]


async def another_worker(ctx: Context) -> HeldConversion | None:
    """What it would take now."""
    other = new_worker_id()
    await ctx.write(register_worker, other, "other", 600)
    return await ctx.write(claim_conversion, other)


async def test_a_file_is_made_for_each_type_and_recorded(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    await convert(ctx, await claimed(ctx))
    conversion, files = await conversion_in(sessions, artifact)
    assert (conversion.state, conversion.worker) == (ConversionState.READY, None)
    assert [(file.resource_type, file.rows) for file in files] == [("task", 2), ("team", 1)]
    assert files[0].columns[-1] == {"name": "created_at", "type": "timestamp"}
    path = folder_of(ctx.settings) / files[0].key
    assert duckdb.read_parquet(str(path)).project("gid").fetchall() == [("1",), ("3",)]
    about = {"artifact": artifact.id, "format": "parquet"}
    assert await events(sessions) == [
        (EventType.ARTIFACT_CONVERSION_REQUESTED, about),
        (EventType.ARTIFACT_CONVERTED, about),
    ]
    assert list(ctx.settings.scratch.iterdir()) == []


async def test_all_that_is_asked_for_is_made(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    for form in Format:
        await asked(ctx, tenant, artifact, form)
    await convert_all(ctx)
    for form in Format:
        assert (await conversion_in(sessions, artifact, form))[0].state is ConversionState.READY


async def test_one_is_held_by_one_worker(ctx: Context, tenant: Tenant, artifact: Artifact) -> None:
    await asked(ctx, tenant, artifact)
    assert await claimed(ctx)
    assert await another_worker(ctx) is None


async def test_a_claim_whose_answer_was_lost_is_made_again(
    ctx: Context, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    first, second = await claimed(ctx), await claimed(ctx)
    assert (second.fence, second.failures) == (first.fence + 1, 0)


async def test_another_takes_over_from_one_that_died_and_the_dead_one_writes_nothing(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    lost = await claimed(ctx)
    async with sessions.begin() as session:
        await session.execute(LEASES_END)
    held = await another_worker(ctx)
    assert held
    assert held.failures == 1
    before = stored(ctx)
    await convert(ctx, lost)
    assert stored(ctx) == before
    assert await error_of(sessions, artifact) == (ConversionState.PENDING, None)
    with pytest.raises(ConversionLost):
        await ctx.write(conversion_failed, lost, Problem(Code.CONVERSION_FAILED, ""))
    await ctx.write(put_back, lost, seconds=0, failures=1)
    assert await another_worker(ctx) is None
    await convert(ctx, held)
    assert (await conversion_in(sessions, artifact))[0].state is ConversionState.READY


async def test_recording_twice_is_recording_once(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    held = await claimed(ctx)
    await convert(ctx, held)
    await ctx.write(converted, held, [])
    _, files = await conversion_in(sessions, artifact)
    assert len(files) == 2
    assert len(await events(sessions)) == 2


async def test_a_file_that_cannot_be_converted_fails_with_the_reason(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    (folder_of(ctx.settings) / artifact.key).write_bytes(b"damaged since")
    await asked(ctx, tenant, artifact)
    held = await claimed(ctx)
    await convert(ctx, held)
    assert await error_of(sessions, artifact) == (ConversionState.FAILED, "not-convertible")
    await ctx.write(conversion_failed, held, Problem(Code.NOT_CONVERTIBLE, ""))
    assert [kind for kind, _ in await events(sessions)][1:] == [EventType.ARTIFACT_CONVERSION_FAILED]
    await asked(ctx, tenant, artifact)
    assert await error_of(sessions, artifact) == (ConversionState.PENDING, None)


async def test_a_file_that_is_missing_fails_with_the_reason(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await ctx.store.delete(artifact.key)
    await asked(ctx, tenant, artifact)
    await convert(ctx, await claimed(ctx))
    assert await error_of(sessions, artifact) == (ConversionState.FAILED, "artifact-missing")


async def test_a_folder_that_cannot_be_written_is_waited_for(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    ctx.settings.scratch.write_text("a file in the place of the folder")
    await asked(ctx, tenant, artifact)
    for _ in range(MOST_FAILURES + 1):
        await convert(ctx, await later(ctx, sessions))
    ctx.settings.scratch.unlink()
    await convert(ctx, await later(ctx, sessions))
    assert (await conversion_in(sessions, artifact))[0].state is ConversionState.READY


async def later(ctx: Context, sessions: Sessions) -> HeldConversion:
    """The conversion, as if it had been waited for."""
    async with sessions.begin() as session:
        await session.execute(text("UPDATE conversions SET not_before = now()"))
    return await claimed(ctx)


async def test_one_that_is_put_back_waits(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    await ctx.write(put_back, await claimed(ctx), seconds=600, failures=0)
    assert await ctx.write(claim_conversion, ctx.lease.worker) is None


async def test_crashes_are_tried_three_times(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process that converts finds no interpreter of ours to run in.
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    await asked(ctx, tenant, artifact)
    crashed = crashes("conversion")
    for _ in range(MOST_FAILURES):
        await convert(ctx, await later(ctx, sessions))
        assert await error_of(sessions, artifact) == (ConversionState.PENDING, None)
    assert crashes("conversion") == crashed + MOST_FAILURES
    await convert(ctx, await later(ctx, sessions))
    assert await error_of(sessions, artifact) == (ConversionState.FAILED, "conversion-failed")


async def test_nothing_is_made_of_a_file_that_is_no_longer_kept(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    await delete(sessions, artifact)
    await convert(ctx, await claimed(ctx))
    assert await error_of(sessions, artifact) == (ConversionState.FAILED, "artifact-expired")


async def delete(sessions: Sessions, artifact: Artifact) -> None:
    async with sessions.begin() as session:
        await deleted(session, await session.get_one(Artifact, artifact.id))


async def about_to_record(
    ctx: Context,
    sessions: Sessions,
    held: HeldConversion,
    meanwhile: Callable[[AsyncSession, asyncio.Task[None]], Awaitable[None]],
) -> None:
    """Let something happen in a transaction that has the conversion locked while its files are published."""
    async with sessions.begin() as session:
        await session.get_one(Conversion, (held.artifact, held.format), with_for_update=True)
        task = asyncio.create_task(convert(ctx, held))
        await until_somebody_waits(sessions)
        await meanwhile(session, task)
    await asyncio.wait({task})


async def test_a_worker_told_to_stop_records_the_files_it_has_published(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    async def stop(_: AsyncSession, task: asyncio.Task[None]) -> None:
        assert len(stored(ctx)) == 3
        task.cancel()

    await asked(ctx, tenant, artifact)
    await about_to_record(ctx, sessions, await claimed(ctx), stop)
    assert (await conversion_in(sessions, artifact))[0].state is ConversionState.READY


async def test_files_that_nobody_wants_any_more_are_deleted(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    async def take(session: AsyncSession, _: asyncio.Task[None]) -> None:
        await session.execute(text("DELETE FROM conversions"))

    await asked(ctx, tenant, artifact)
    await about_to_record(ctx, sessions, await claimed(ctx), take)
    assert stored(ctx) == {artifact.key}


async def test_files_of_an_artifact_that_was_deleted_meanwhile_are_not_recorded(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    held = await claimed(ctx)
    await delete(sessions, artifact)
    with pytest.raises(ConversionLost):
        await ctx.write(converted, held, [])


async def test_a_file_is_not_deleted_while_its_conversion_is_recorded(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    async with sessions.begin() as session:
        assert await lock_kept(session, artifact.id)
        deleting = asyncio.create_task(delete(sessions, artifact))
        await until_somebody_waits(sessions)
        assert not deleting.done()
    await deleting


async def test_files_go_with_their_artifact(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    await convert(ctx, await claimed(ctx))
    async with sessions.begin() as session:
        await session.execute(text("DELETE FROM artifacts"))
    async with sessions() as session:
        assert (await session.scalars(select(OutputFile))).all() == []


def left_behind(folder: Path, moment: float) -> None:
    folder.mkdir(parents=True)
    (folder / "source").touch()
    os.utime(folder, (moment, moment))


async def test_what_a_killed_worker_has_left_is_removed_when_it_is_old(
    ctx: Context, tenant: Tenant, artifact: Artifact
) -> None:
    left_behind(ctx.settings.scratch / "old", 1)
    left_behind(ctx.settings.scratch / "new", time.time())
    await asked(ctx, tenant, artifact)
    await convert(ctx, await claimed(ctx))
    assert [path.name for path in ctx.settings.scratch.iterdir()] == ["new"]


async def test_a_line_without_a_type_is_of_the_type_that_was_asked_for(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    (folder_of(ctx.settings) / artifact.key).write_bytes(gzip.compress(b'{"gid":"1"}\n'))
    await asked(ctx, tenant, artifact)
    await convert(ctx, await claimed(ctx))
    _, files = await conversion_in(sessions, artifact)
    async with sessions() as session:
        run = await session.get_one(Run, artifact.run)
    assert run.request["export_request_parameters"][0]["resource_type"] == "task"
    assert [file.resource_type for file in files] == ["task"]
