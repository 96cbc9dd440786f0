"""Store and tables are made to agree: what nobody names goes, what is missing comes back."""

import gzip
import hashlib
import os
import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from app.artifacts.models import Artifact, Conversion, ConversionState, OutputFile, Refetch, RefetchState
from app.artifacts.outputs import Format
from app.events.log import Cause
from app.exports.attention import attention
from app.exports.outputs import ask_for_conversion
from app.exports.refetches import RefetchLost, claim_refetch, refetched, request_refetch
from app.exports.removal import delete_artifact
from app.ids import new_worker_id
from app.lanes.lease import register_worker
from app.problems import ProblemError
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from app.settings import Settings
from app.worker.context import Context
from app.worker.convert import convert_all
from app.worker.garbage import collect_garbage
from app.worker.refetch import refetch_all
from tests.builders import Tenant
from tests.history import check_history
from tests.stores import folder_of
from tests.worker.conftest import Sessions, archived_file, events_of, placed, stored
from tests.worker.test_retention import MANY, TWICE, many_more

AT_ONCE, DAY = timedelta(), 86_400.0


@pytest.fixture(params=["folder", "bucket"])
def hasty(hasty: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return placed(hasty, request, monkeypatch)


@pytest.fixture
async def artifact(ctx: Context, sessions: Sessions, tenant: Tenant) -> Artifact:
    """A file with a list of its duplicates."""
    return await archived_file(ctx, sessions, tenant, TWICE)


async def written(ctx: Context, key: str, content: bytes = b"x") -> None:
    async with ctx.store.writer(key) as writer:
        await writer.write(content)
        await writer.publish()


async def read(ctx: Context, key: str) -> bytes:
    file = await ctx.store.open(key)
    return b"".join([piece async for piece in file.chunks()])


async def now(sessions: Sessions, artifact: Artifact) -> Artifact:
    async with sessions() as session:
        return await session.get_one(Artifact, artifact.id)


async def refetch_in(sessions: Sessions, artifact: Artifact) -> tuple[RefetchState, str | None]:
    async with sessions() as session:
        found = await session.get_one(Refetch, artifact.id)
        return found.state, (found.error or {}).get("code")


async def missing_items(sessions: Sessions, tenant: Tenant) -> list[tuple[str, int]]:
    async with sessions() as session:
        items = await attention(session, tenant.client, 60.0)
    return [(item.id, item.count) for item in items]


async def told(sessions: Sessions, artifact: Artifact) -> list[str]:
    return [event.type.removeprefix("artifact.") for event in await events_of(sessions, artifact)]


async def test_in_health_nothing_is_changed(ctx: Context, sessions: Sessions, artifact: Artifact) -> None:
    before = await stored(ctx)
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == before == {artifact.key, artifact.duplicates_key}
    assert await told(sessions, artifact) == []


async def test_files_of_ours_that_no_row_names_are_removed(
    ctx: Context, sessions: Sessions, artifact: Artifact
) -> None:
    kept = await stored(ctx)
    for key in (f"1001/{artifact.run}-7.jsonl.gz", f"1001/{artifact.id}-7-task.csv"):
        await written(ctx, key)
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == kept


async def test_files_that_are_not_known_to_be_ours_are_let_alone(ctx: Context, artifact: Artifact) -> None:
    others = {"readme.txt", f"1001/run_{'0' * 32}-1.jsonl.gz", f"1001/{artifact.run}"}
    for key in others:
        await written(ctx, key)
    await collect_garbage(ctx, AT_ONCE)
    assert others < await stored(ctx)


async def test_a_file_that_may_be_about_to_be_recorded_is_let_alone(ctx: Context, artifact: Artifact) -> None:
    key = f"1001/{artifact.run}-7.jsonl.gz"
    await written(ctx, key)
    await collect_garbage(ctx)
    assert key in await stored(ctx)


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_a_day_old_it_is_not(ctx: Context, artifact: Artifact) -> None:
    keys = {f"1001/{artifact.run}-{hours}.jsonl.gz": hours for hours in (23, 25)}
    for key, hours in keys.items():
        await written(ctx, key)
        moment = time.time() - hours * 3600
        os.utime(folder_of(ctx.settings) / key, (moment, moment))
    await collect_garbage(ctx)
    assert await stored(ctx) & set(keys) == {f"1001/{artifact.run}-23.jsonl.gz"}


async def test_what_is_left_of_a_removed_file_goes(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await ctx.write(delete_artifact, tenant.client, artifact.id, Cause("test"))
    await collect_garbage(ctx, AT_ONCE)
    assert len(await stored(ctx)) == 2
    async with sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET removed_at = now()"))
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == set()


@pytest.mark.parametrize("damage", ["gone", "cut"])
async def test_a_missing_file_is_told_and_fetched_again(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact, damage: str
) -> None:
    content = await read(ctx, artifact.key)
    await ctx.store.delete(artifact.key)
    if damage == "cut":
        await written(ctx, artifact.key, content[:-1])
    for _ in range(2):
        await collect_garbage(ctx)
    assert await missing_items(sessions, tenant) == [("files-missing.1001", 1)]
    await refetch_all(ctx)
    again = await now(sessions, artifact)
    assert again.missing_since is None
    assert again.location == ctx.store.location(again.key)
    assert await read(ctx, again.key) == content
    assert len(list(gzip.decompress(await read(ctx, again.duplicates_key)).split())) == again.duplicate_gids
    assert await missing_items(sessions, tenant) == []
    assert await told(sessions, artifact) == ["missing", "refetch_requested", "refetched"]
    assert (await events_of(sessions, artifact))[0].data["missing"] == [artifact.key]
    # Somebody may be reading what there was before.
    before = await stored(ctx)
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == before
    async with sessions.begin() as session:
        await session.execute(text("UPDATE refetches SET finished_at = finished_at - interval '7 hours'"))
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == {again.key, again.duplicates_key}
    await check_history(sessions, ctx.store)


async def test_other_bytes_replace_nothing(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET sha256 = :other"), {"other": "f" * 64})
    before = await stored(ctx)
    await ctx.write(request_refetch, tenant.client, artifact.id, Cause("test"))
    await refetch_all(ctx)
    assert await refetch_in(sessions, artifact) == (RefetchState.FAILED, "artifact-changed")
    assert await stored(ctx) == before
    assert (await now(sessions, artifact)).key == artifact.key


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_what_asana_has_no_longer_stays_missing_and_is_listed_with_the_cause(
    ctx: Context, sessions: Sessions, sandbox: SandboxControl, tenant: Tenant, artifact: Artifact
) -> None:
    content = await read(ctx, artifact.key)
    await ctx.store.delete(artifact.key)
    sandbox.advance(31 * DAY)
    for _ in range(2):
        await collect_garbage(ctx)
        await refetch_all(ctx)
    assert await missing_items(sessions, tenant) == [("files-missing.1001.upstream-artifact-expired", 1)]
    assert await told(sessions, artifact) == ["missing", "refetch_requested", "refetch_failed"]
    await written(ctx, artifact.key, content)
    await collect_garbage(ctx)
    assert await missing_items(sessions, tenant) == []
    assert (await told(sessions, artifact))[-1] == "mended"


async def test_a_list_of_duplicates_is_made_again_from_the_file(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    before = await read(ctx, artifact.duplicates_key)
    await ctx.store.delete(artifact.duplicates_key)
    await collect_garbage(ctx)
    assert gzip.decompress(await read(ctx, artifact.duplicates_key)) == gzip.decompress(before)
    assert (await now(sessions, artifact)).missing_since is not None
    await collect_garbage(ctx)
    assert await told(sessions, artifact) == ["missing", "mended"]


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_a_list_of_duplicates_is_not_made_of_another_file(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    content = bytearray(await read(ctx, artifact.key))
    content[len(content) // 2] ^= 1
    (folder_of(ctx.settings) / artifact.key).write_bytes(content)
    await ctx.store.delete(artifact.duplicates_key)
    await collect_garbage(ctx)
    await refetch_all(ctx)
    again = await now(sessions, artifact)
    assert hashlib.sha256(await read(ctx, again.key)).hexdigest() == artifact.sha256
    assert again.duplicates_key in await stored(ctx)


async def test_missing_tables_are_made_again(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await ctx.write(ask_for_conversion, tenant.client, artifact.id, Format.CSV, Cause("test"))
    await convert_all(ctx)

    async def table() -> OutputFile:
        async with sessions() as session:
            return (await session.scalars(select(OutputFile))).one()

    first = await table()
    await ctx.store.delete(first.key)
    await collect_garbage(ctx)
    async with sessions() as session:
        conversion = await session.get_one(Conversion, (artifact.id, Format.CSV))
        assert conversion.state is ConversionState.PENDING
    await convert_all(ctx)
    await collect_garbage(ctx)
    assert hashlib.sha256(await read(ctx, (await table()).key)).hexdigest() == first.sha256
    story = ["missing", "conversion_requested", "converted", "mended"]
    assert (await told(sessions, artifact))[2:] == story
    await check_history(sessions, ctx.store)


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_every_page_of_many_is_looked_at(ctx: Context, sessions: Sessions, artifact: Artifact) -> None:
    await many_more(sessions)
    strays = {f"1001/{artifact.run}-9{number}.jsonl.gz" for number in range(MANY)}
    for key in strays:
        (folder_of(ctx.settings) / key).touch()
    await collect_garbage(ctx, AT_ONCE)
    assert await stored(ctx) == {artifact.key, artifact.duplicates_key}
    async with sessions() as session:
        missing = select(Artifact.id).where(Artifact.missing_since.is_not(None))
        assert len((await session.scalars(missing)).all()) == MANY


async def asked(ctx: Context, tenant: Tenant, artifact: Artifact) -> None:
    await ctx.write(request_refetch, tenant.client, artifact.id, Cause("test"))


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_a_refetch_is_held_by_one_worker_until_its_lease_is_over(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    other = new_worker_id()
    await ctx.write(register_worker, other, "other", 600)
    held = await ctx.write(claim_refetch, other)
    assert held
    assert await ctx.write(claim_refetch, ctx.lease.worker) is None
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE workers SET lease_expires_at = now() - interval '1 s' WHERE id = :id"), {"id": other}
        )
    await refetch_all(ctx)
    assert await refetch_in(sessions, artifact) == (RefetchState.DONE, None)
    with pytest.raises(RefetchLost):
        await ctx.write(refetched, held, "1001/of-the-dead-one", "nowhere")
    assert (await told(sessions, artifact))[-1] == "refetched"


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_recording_it_twice_is_recording_it_once(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    held = await ctx.write(claim_refetch, ctx.lease.worker)
    assert held
    for _ in range(2):
        await ctx.write(refetched, held, "1001/again", "file:///again")
    assert await told(sessions, artifact) == ["refetch_requested", "refetched"]


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_what_was_deleted_meanwhile_is_not_recorded(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await asked(ctx, tenant, artifact)
    held = await ctx.write(claim_refetch, ctx.lease.worker)
    assert held
    await ctx.write(delete_artifact, tenant.client, artifact.id, Cause("test"))
    with pytest.raises(RefetchLost):
        await ctx.write(refetched, held, "1001/again", "file:///again")


FAULTS: dict[str, tuple[dict[str, Any], RefetchState]] = {
    "a file that stays damaged": ({"kind": FaultKind.BITFLIP}, RefetchState.FAILED),
    "a server that is away": ({"kind": FaultKind.STATUS, "status": 503}, RefetchState.PENDING),
}


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
@pytest.mark.parametrize("fault", FAULTS)
async def test_what_comes_damaged_is_given_up_and_who_is_away_is_waited_for(
    ctx: Context, sessions: Sessions, sandbox: SandboxControl, tenant: Tenant, artifact: Artifact, fault: str
) -> None:
    how, becomes = FAULTS[fault]
    sandbox.add_fault(Call.FILE, times=None, **how)
    before = await stored(ctx)
    await asked(ctx, tenant, artifact)
    for _ in range(4):
        await refetch_all(ctx)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE refetches SET not_before = now()"))
    state, code = await refetch_in(sessions, artifact)
    assert (state, code) == (becomes, "artifact-corrupt" if becomes is RefetchState.FAILED else None)
    assert await stored(ctx) == before


@pytest.mark.parametrize("hasty", ["folder"], indirect=True)
async def test_after_thirty_days_nobody_is_asked(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    async with sessions.begin() as session:
        await session.execute(text("UPDATE runs SET slot_freed_at = now() - interval '30 days 1 minute'"))
    with pytest.raises(ProblemError, match="upstream-artifact-expired"):
        await asked(ctx, tenant, artifact)
    assert await told(sessions, artifact) == []
