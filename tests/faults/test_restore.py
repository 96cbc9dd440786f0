"""The database is put back to an earlier moment, while files, Asana and readers are where they were."""

from datetime import timedelta

import pytest
from sqlalchemy import make_url

from app.access.models import EVERYBODY
from app.artifacts.store import open_store
from app.clock import SystemClock
from app.database.session import open_database
from app.events.log import Event, EventType
from app.events.placing import place_events
from app.exports.feed import Edge, EventFilter, feed_page
from app.exports.models import Phase
from app.worker.garbage import collect_garbage
from app.worker.process import worker_context
from tests.postgres import OwnPostgres, a_folder
from tests.processes import Process
from tests.system.conftest import BRIEFLY, Service
from tests.system.exports import assert_verified, posts, resource


@pytest.fixture
def database_url(own_database_url: str) -> str:
    return own_database_url


async def position(service: Service) -> int:
    """Where a reader stands who has read all events."""
    async with service.sessions.begin() as session:
        await place_events(session)
    async with service.sessions() as session:
        return (await feed_page(session, EVERYBODY, EventFilter(), Edge.LATEST, 1)).cursor


async def read_after(service: Service, cursor: int) -> list[Event]:
    """What a reader is told who goes on from there."""
    async with service.sessions.begin() as session:
        await place_events(session)
    told: list[Event] = []
    more = True
    while more:
        async with service.sessions() as session:
            page = await feed_page(session, EVERYBODY, EventFilter(), cursor, 100)
        told += [each.event for each in page.items]
        cursor, more = page.cursor, page.has_more
    return told


async def command(service: Service, *words: str) -> tuple[int, str]:
    with Process(service.folder / "command.log", *words, env=service.env()) as process:
        return await process.ended(60), process.output()


async def collected(service: Service) -> None:
    """A round of garbage that has no patience."""
    async with (
        open_database(service.settings) as database,
        worker_context(service.settings, database, SystemClock()) as ctx,
    ):
        await collect_garbage(ctx, timedelta())


async def files(service: Service) -> set[str]:
    return {entry.key async for entry in open_store(service.settings.files_url).files()}


async def test_nothing_is_lost_or_mistaken(service: Service, own_postgres: OwnPostgres) -> None:
    name = make_url(service.settings.database_url or "").database or ""
    worker = service.worker(**BRIEFLY)
    done = await service.submit(resource("1001"))
    await service.finished(done)
    service.sandbox.patch(run_seconds=(86_400, 86_400))
    running = await service.submit(resource("1001"))
    queued = await service.submit(resource("1001"))
    await service.until_run(running, lambda run: run.phase is Phase.POLLING)
    before = await position(service)
    with a_folder() as folder:
        folder.chmod(0o777)
        own_postgres.dump(name, folder / "backup")

        # What the backup does not know.
        service.sandbox.patch(run_seconds=(1, 1))
        service.sandbox.end_job((await service.run_of(running)).asana_job or "")
        lost = await service.submit(resource("1002"))
        await service.finished(running, queued, lost)
        after = await position(service)
        made_then = {f"{each.workspace}/{each.run}-1.jsonl.gz" for each in (running, queued, lost)}
        assert made_then < await files(service)

        code, said = await command(service, "restored")
        assert code == 1
        assert "Workers that live: 1." in said
        worker.kill()
        own_postgres.restore(name, folder / "backup")

    code, said = await command(service, "restored")
    assert code == 0, said
    assert "done again: 2.\n" in said
    assert f"Files of exports that it does not know: 1.\n  1002/{lost.run}-1.jsonl.gz\n" in said

    await collected(service)
    assert made_then < await files(service)
    service.worker()
    again = await service.finished(running, queued)
    for export in (*again, *await service.finished(done)):
        await assert_verified(service, export)
    # The one that Asana had under way was followed; the other was asked for twice.
    assert len([status for status in posts(service) if status == 201]) == 5
    assert made_then < await files(service)

    # Readers hear of all that came since, wherever they had come to.
    ends = {
        event.export for event in await read_after(service, after) if event.type == EventType.EXPORT_SUCCEEDED
    }
    assert ends == {running.id, queued.id}
    told = [event.type for event in await read_after(service, before)]
    assert told[0] == EventType.SERVICE_RESTORED
    assert told.count(EventType.EXPORT_SUCCEEDED) == 2

    # What was made of them before is no longer of use; what nobody knows is for people to decide.
    await collected(service)
    assert made_then & await files(service) == {f"1002/{lost.run}-1.jsonl.gz"}
