"""A changed schema is told to those who rely on it; a result that merely has other objects is not one."""

from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from app.database.base import BigInt
from app.events.log import Event, EventType
from app.exports.drift import Drift, Seen, drifts
from app.exports.models import Export, Phase, Status
from app.exports.requests import ExportRequest
from app.exports.runs import HeldArchive, archived
from app.exports.states import change, locked_run
from app.ids import new_worker_id
from app.lanes.lease import register_worker
from tests.builders import Tenant, a_tenant, an_artifact
from tests.exports.test_sharing import PROJECT, TASKS, asked
from tests.history import check_history

Sessions = async_sessionmaker[AsyncSession]


def seen(lines: int, *paths: str, kind: str = "task") -> Seen:
    return Seen({kind: lines}, {kind: sorted(paths)})


def told(before: Seen, after: Seen) -> list[tuple[list[str], list[str]]]:
    return [(drift.added, drift.removed) for drift in drifts(before, after)]


def test_keys_that_come_and_go_are_told() -> None:
    before = seen(10, "gid", "old", "assignee", "assignee.gid", "assignee.email")
    after = seen(10, "gid", "new", "assignee", "assignee.gid", "assignee.name")
    assert list(drifts(before, after)) == [
        Drift("task", ["assignee.name", "new"], ["assignee.email", "old"]),
    ]


def test_the_same_keys_are_no_news() -> None:
    assert told(seen(10, "gid", "name"), seen(1, "gid", "name")) == []


def test_below_objects_that_do_not_occur_nothing_is_missed() -> None:
    """Nobody is assigned any more, and some task has a parent for the first time."""
    before = seen(10, "gid", "parent", "assignee", "assignee.gid", "stories", "stories[].by")
    after = seen(10, "gid", "parent", "assignee", "parent.gid", "stories")
    assert told(before, after) == []


def test_a_result_that_has_shrunk_may_lack_what_few_objects_have() -> None:
    before = seen(100, "gid", "rare")
    assert told(before, seen(49, "gid", "new")) == [(["new"], [])]
    assert told(before, seen(50, "gid", "new")) == [(["new"], ["rare"])]


def test_types_that_only_one_of_them_has_are_not_compared() -> None:
    assert told(seen(10, "gid"), seen(10, "gid", "more", kind="team")) == []
    assert told(seen(10, "gid"), Seen({}, {})) == []


def test_too_many_keys_to_keep_are_not_compared() -> None:
    assert told(seen(10, "gid"), Seen({"task": 10}, {"task": None})) == []


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)


async def exported(
    sessions: Sessions, tenant: Tenant, *paths: str, request: ExportRequest = TASKS, lines: int = 1
) -> Export:
    """An export whose file has these keys."""
    export, worker = await asked(sessions, tenant, request), new_worker_id()
    async with sessions.begin() as session:
        await register_worker(session, worker, "test", 60)
        run = await locked_run(session, export.run)
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING)
        await change(session, run, Status.ARCHIVING, actor="test", archiver=worker)
        archive = HeldArchive(run.id, worker, run.archive_fence)
        artifact = an_artifact(archive)
        artifact.lines = BigInt(lines)
        artifact.by_type = {"task": lines} if lines else {}
        artifact.key_paths = {"task": list(paths)} if lines else {}
        await archived(session, archive, artifact, [])
    return export


async def changes(sessions: Sessions, export: Export) -> list[dict[str, Any]]:
    of_schema = select(Event).where(Event.export == export.id, Event.type == EventType.SCHEMA_CHANGED)
    async with sessions() as session:
        return [event.data for event in await session.scalars(of_schema)]


async def test_an_export_is_compared_with_the_last_one_of_the_same_request(
    sessions: Sessions, tenant: Tenant
) -> None:
    first = await exported(sessions, tenant, "gid", "name")
    other = await exported(sessions, tenant, "gid", "other", request=PROJECT)
    empty = await exported(sessions, tenant, lines=0)
    second = await exported(sessions, tenant, "gid", "title")
    third = await exported(sessions, tenant, "gid", "title")
    expected = {"resource_type": "task", "added": ["title"], "removed": ["name"], "previous_run": first.run}
    assert await changes(sessions, second) == [expected]
    for unchanged in (first, other, empty, third):
        assert await changes(sessions, unchanged) == []
    await check_history(sessions)
