"""The checker of histories finds every kind of broken promise, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.artifacts.store import Store, open_store
from app.database.base import BigInt
from app.exports.cancel import cancel
from app.exports.history import Promise, Violation, violations
from app.exports.models import Export, Phase, Status
from app.exports.runs import HeldArchive
from app.exports.states import change, locked_run
from app.ids import new_worker_id
from tests.builders import a_tenant, an_artifact, an_export

Sessions = async_sessionmaker[AsyncSession]
CONTENT = b"as it was verified"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path.as_uri())


@pytest.fixture
async def done(sessions: Sessions, vault: Vault, store: Store) -> Export:
    """An export that has succeeded, after one that was canceled and before one that waits."""
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        gone = await an_export(session, tenant)
        await cancel(session, gone.id, actor="test", request_id=None)
        export = await an_export(session, tenant)
        run = await locked_run(session, export.run)
        for status, phase in ((Status.RUNNING, Phase.POLLING), (Status.ARCHIVING, None)):
            await change(session, run, status, actor="test", phase=phase)
        artifact = an_artifact(HeldArchive(run.id, new_worker_id(), 1))
        artifact.bytes = BigInt(len(CONTENT))
        artifact.sha256 = "3c12d1e373f4a6ff19e8c35443cff95cf70d10c3313b750d70631d6109a6db21"
        session.add(artifact)
        await change(session, run, Status.SUCCEEDED, actor="test")
        await an_export(session, tenant)
    async with store.writer(artifact.key) as writer:
        await writer.write(CONTENT)
        await writer.publish()
    return export


async def found(sessions: Sessions, store: Store | None = None) -> list[Violation]:
    async with sessions() as session:
        return [violation async for violation in violations(session, store)]


async def plant(sessions: Sessions, sql: str, **values: Any) -> None:
    async with sessions.begin() as session:
        await session.execute(text("ALTER TABLE events DISABLE TRIGGER events_never_change"))
        await session.execute(text(sql), values)


async def test_a_history_as_it_should_be_has_no_violation(
    sessions: Sessions, done: Export, store: Store
) -> None:
    assert await found(sessions, store) == []


async def test_canceling_what_is_only_tried_is_no_violation(
    sessions: Sessions, vault: Vault, store: Store
) -> None:
    """Asana refuses the run again and again, which its callers are not told; meanwhile one cancels."""
    async with sessions.begin() as session:
        export = await an_export(session, await a_tenant(session, vault))
        run = await locked_run(session, export.run)
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.SUBMITTING, quietly=True)
        await cancel(session, export.id, actor="test", request_id=None)
        await change(session, run, Status.CANCELED, actor="test")
    assert await found(sessions, store) == []


SECOND = "export = :export AND data ->> 'version' = '2'"
THIRD = "export = :export AND data ->> 'version' = '3'"
TWO_IN_THE_SLOT = """
    INSERT INTO events (id, type, run, lane, actor, data)
    SELECT 'evt_' || number, 'export.started', 'run_' || number, lane, 'test', '{"status": "running"}'::jsonb
    FROM exports, generate_series(1, 2) AS number WHERE exports.id = :export
"""
PLANTED = {
    "a change without an event": (
        Promise.RECORDED,
        "UPDATE exports SET status = 'failed', error = '{}' WHERE id = :export",
    ),
    "an event lost": (Promise.RECORDED, f"DELETE FROM events WHERE {SECOND}"),
    "all events lost": (Promise.RECORDED, "DELETE FROM events WHERE export = :export"),
    "a leap": (
        Promise.ONE_STEP,
        f'UPDATE events SET data = data || \'{{"status": "canceling"}}\' WHERE {SECOND}',
    ),
    "a second end": (
        Promise.ONE_END,
        f'UPDATE events SET data = data || \'{{"status": "failed"}}\' WHERE {THIRD}',
    ),
    "two in the slot": (Promise.ONE_SLOT, TWO_IN_THE_SLOT),
    "time that never was": (
        Promise.LATENCY,
        "UPDATE exports SET run_us = run_us + 5000000 WHERE id = :export",
    ),
    "a success without a file": (Promise.FILE, "DELETE FROM artifacts"),
    "another file": (Promise.FILE, "UPDATE artifacts SET sha256 = repeat('0', 64)"),
    "a file of another size": (Promise.FILE, "UPDATE artifacts SET bytes = bytes + 1"),
    "a file that is gone": (Promise.FILE, "UPDATE artifacts SET key = '1001/gone.jsonl.gz'"),
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_violation_is_found(
    sessions: Sessions, done: Export, store: Store, planted: str
) -> None:
    promise, sql = PLANTED[planted]
    await plant(sessions, sql, **({"export": done.id} if ":export" in sql else {}))
    assert promise in {violation.promise for violation in await found(sessions, store)}
