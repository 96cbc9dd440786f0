"""Files expire as they were said to, and their bytes go later: in a folder, and in a bucket of S3."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update

from app.artifacts.models import Artifact, ArtifactState, Conversion
from app.artifacts.outputs import Format
from app.database.base import Json
from app.events.log import Cause
from app.exports.outputs import ask_for_conversion
from app.exports.removal import delete_artifact, hold_artifact, release_artifact
from app.exports.requests import ResourceRequest
from app.settings import Settings
from app.worker.context import Context
from app.worker.convert import convert_all
from app.worker.retention import keep_retention
from tests.builders import Tenant
from tests.history import check_history
from tests.worker.conftest import Sessions, archived_file, events_of, placed, stored

HOURS, DAYS = timedelta(hours=1), timedelta(days=1)
# Each task fits both filters, so that there are duplicates.
TWICE = ResourceRequest.model_validate(
    {
        "workspace": "1001",
        "export_request_parameters": [
            {"resource_type": "task", "filters": {"modified_at.after": "2000-01-01T00:00:00Z"}},
            {"resource_type": "task", "filters": {"created_at.after": "2000-01-01T00:00:00Z"}},
        ],
    }
)


@pytest.fixture(params=["folder", "bucket"])
def hasty(hasty: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return placed(hasty, request, monkeypatch)


@pytest.fixture
async def artifact(ctx: Context, sessions: Sessions, tenant: Tenant) -> Artifact:
    """A file with a list of its duplicates and with a table."""
    made = await archived_file(ctx, sessions, tenant, TWICE)
    await ctx.write(ask_for_conversion, tenant.client, made.id, Format.CSV, Cause("test"))
    await convert_all(ctx)
    assert len(await stored(ctx)) == 3
    return made


async def put(sessions: Sessions, **columns: timedelta) -> None:
    """Moments of the artifact, so far from now."""
    async with sessions.begin() as session:
        await session.execute(
            update(Artifact).values({name: func.now() + span for name, span in columns.items()})
        )


async def state_of(sessions: Sessions) -> ArtifactState:
    async with sessions() as session:
        return (await session.scalars(select(Artifact.state))).one()


async def told(sessions: Sessions, artifact: Artifact) -> list[str]:
    return [event.type.removeprefix("artifact.") for event in await events_of(sessions, artifact)][2:]


async def test_a_file_is_announced_then_expires_and_then_its_bytes_go(
    ctx: Context, sessions: Sessions, artifact: Artifact
) -> None:
    await keep_retention(ctx)
    assert await state_of(sessions) is ArtifactState.AVAILABLE
    await put(sessions, expires_at=3 * DAYS - HOURS)
    await keep_retention(ctx)
    assert await state_of(sessions) is ArtifactState.EXPIRING
    await put(sessions, expires_at=-HOURS)
    await keep_retention(ctx)
    assert await state_of(sessions) is ArtifactState.EXPIRED
    await put(sessions, ended_at=-6 * HOURS + timedelta(minutes=1))
    await keep_retention(ctx)
    assert len(await stored(ctx)) == 3
    await put(sessions, ended_at=-6 * HOURS)
    await keep_retention(ctx)
    assert await stored(ctx) == set()
    async with sessions() as session:
        assert (await session.get_one(Artifact, artifact.id)).removed_at is not None
        assert (await session.scalars(select(Conversion))).all() == []
    await keep_retention(ctx)
    assert await told(sessions, artifact) == ["expiring", "expired"]
    for event in (await events_of(sessions, artifact))[2:]:
        assert (event.run, event.lane, event.actor) == (artifact.run, "1001", ctx.lease.worker)
    await check_history(sessions, ctx.store)


async def test_a_file_that_is_over_unannounced_is_announced_all_the_same(
    ctx: Context, sessions: Sessions, artifact: Artifact
) -> None:
    await put(sessions, expires_at=-DAYS)
    await keep_retention(ctx)
    assert await told(sessions, artifact) == ["expiring", "expired"]
    assert len(await stored(ctx)) == 3


async def test_a_deleted_file_goes_with_all_that_was_made_of_it(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await ctx.write(delete_artifact, tenant.client, artifact.id, Cause("client:somebody"))
    await keep_retention(ctx)
    assert len(await stored(ctx)) == 3
    await put(sessions, ended_at=-6 * HOURS)
    await keep_retention(ctx)
    assert await stored(ctx) == set()
    assert await told(sessions, artifact) == ["deleted"]
    assert (await events_of(sessions, artifact))[-1].actor == "client:somebody"


async def test_a_held_file_does_not_expire_and_is_given_notice_when_it_is_released(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await put(sessions, expires_at=HOURS)
    await keep_retention(ctx)
    await ctx.write(hold_artifact, tenant.client, artifact.id, Cause("test"))
    await put(sessions, expires_at=-HOURS)
    await keep_retention(ctx)
    assert await state_of(sessions) is ArtifactState.AVAILABLE
    await ctx.write(release_artifact, tenant.client, artifact.id, 3 * DAYS, Cause("test"))
    await keep_retention(ctx)
    assert await state_of(sessions) is ArtifactState.EXPIRING
    assert await told(sessions, artifact) == ["expiring", "held", "released", "extended", "expiring"]


async def test_a_round_that_was_broken_off_is_finished_by_the_next(
    ctx: Context, sessions: Sessions, tenant: Tenant, artifact: Artifact
) -> None:
    await ctx.write(delete_artifact, tenant.client, artifact.id, Cause("test"))
    await put(sessions, ended_at=-6 * HOURS)
    await ctx.store.delete(artifact.key)
    await keep_retention(ctx)
    assert await stored(ctx) == set()
    async with sessions() as session:
        assert (await session.get_one(Artifact, artifact.id)).removed_at is not None


MANY = 250
MORE_RUNS = text("""
    INSERT INTO runs SELECT filled.* FROM runs, generate_series(1, :many) AS number, LATERAL
        jsonb_populate_record(NULL::runs, to_jsonb(runs)
            || jsonb_build_object('id', 'run_' || lpad(number::text, 32, '0'))) AS filled
""")
MORE_FILES = text("""
    INSERT INTO artifacts SELECT filled.* FROM artifacts, generate_series(1, :many) AS number, LATERAL
        jsonb_populate_record(NULL::artifacts, to_jsonb(artifacts)
            || jsonb_build_object('id', 'art_' || lpad(number::text, 32, '0'),
                'run', 'run_' || lpad(number::text, 32, '0'),
                'key', '1001/run_' || lpad(number::text, 32, '0') || '-1.jsonl.gz')) AS filled
""")


async def many_more(sessions: Sessions) -> None:
    """Rows like the one that is there."""
    async with sessions.begin() as session:
        await session.execute(MORE_RUNS, {"many": MANY})
        await session.execute(MORE_FILES, {"many": MANY})


async def test_many_expire_once_each_whoever_looks_at_the_same_time(
    ctx: Context, sessions: Sessions, artifact: Artifact
) -> None:
    await many_more(sessions)
    await put(sessions, expires_at=-HOURS)
    await asyncio.gather(*(keep_retention(ctx) for _ in range(3)))
    await keep_retention(ctx)
    count = text("SELECT type, count(*), count(DISTINCT data ->> 'artifact') FROM events GROUP BY type")
    async with sessions() as session:
        counts: Json = {row.type: tuple(row)[1:] for row in await session.execute(count)}
    assert counts["artifact.expiring"] == counts["artifact.expired"] == (MANY + 1, MANY + 1)


async def test_what_somebody_has_locked_is_left_to_the_next_round(
    ctx: Context, sessions: Sessions, artifact: Artifact
) -> None:
    await put(sessions, expires_at=-HOURS)
    async with sessions.begin() as session:
        await session.get_one(Artifact, artifact.id, with_for_update=True)
        async with asyncio.timeout(30):
            await keep_retention(ctx)
    assert await told(sessions, artifact) == []
    await keep_retention(ctx)
    assert await told(sessions, artifact) == ["expiring", "expired"]
