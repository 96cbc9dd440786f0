"""Whatever happens to PostgreSQL: what was accepted is done, nothing is done twice, nobody has to restart."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import func, make_url, select, text

from app.exports.models import Export
from app.sandbox.faults import Call, FaultKind
from tests.faults.tool import Tool, a_long_job, a_tool, all_is_done, body, unavailable
from tests.locks import until_somebody_waits
from tests.postgres import Line, OwnPostgres, line_to
from tests.processes import until
from tests.system.conftest import BRIEFLY, Service
from tests.system.exports import posts


@pytest.fixture
def database_url(own_database_url: str) -> str:
    return own_database_url


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def tool(service: Service, stack: AsyncExitStack) -> Tool:
    return await a_tool(service, stack)


async def test_06_postgres_down_for_a_minute(service: Service, tool: Tool, own_postgres: OwnPostgres) -> None:
    workers = [service.worker(**BRIEFLY), service.worker(**BRIEFLY)]
    for worker in workers:
        await worker.said("worker.started")
    await a_long_job(service, tool)
    await tool.ask("1001")
    # The slot of another workspace is taken when the database goes, and the call that starts the job is due.
    service.sandbox.add_fault(Call.PARENT, FaultKind.DELAY, delay=2)
    await tool.ask_graph("1002", "10022001")
    await until_over(service, "the look at the parent")
    with own_postgres.away():
        before = len(posts(service)) + len(posts(service, Call.GRAPH))
        unavailable(await tool.post(body("1003")))
        unavailable(await tool.http.get("/v1/exports"))
        for worker in workers:
            await worker.said("worker.lease_lost")
            await worker.said("worker.stopped")
        assert len(posts(service)) + len(posts(service, Call.GRAPH)) == before
        unavailable(await tool.post(body("1003")))
    await all_is_done(service, tool)
    for worker in workers:
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0


async def until_over(service: Service, what: str) -> None:
    """Until the only fault of the sandbox has begun."""

    async def look() -> bool | None:
        return not service.sandbox.faults() or None

    await until(look, 20, lambda: what)


async def test_postgres_goes_down_in_the_moment_in_which_asana_accepts(
    service: Service, tool: Tool, own_postgres: OwnPostgres
) -> None:
    """What became of the request cannot be written down any more: it costs one job at most."""
    worker = service.worker(**BRIEFLY)
    service.sandbox.add_fault(Call.RESOURCE, FaultKind.DELAY, delay=2)
    export = await tool.ask("1001")
    await until_over(service, "the request for a job")
    with own_postgres.away():
        await worker.said("worker.lease_lost")
    await tool.ended(export)
    assert (await tool.http.get(export)).json()["status"] == "succeeded"
    assert len(service.sandbox.jobs()) <= 2


async def test_07_notifications_lost(service: Service, tool: Tool, own_postgres: OwnPostgres) -> None:
    worker = service.worker(IDLE_POLL_SECONDS="2")
    await worker.said("worker.started")
    await until_listening(own_postgres, 2)
    own_postgres.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'")
    await tool.ended(await tool.ask("1001"))
    await until_listening(own_postgres, 2)
    with own_postgres.paused(*own_postgres.listeners()):
        await tool.ended(await tool.ask("1001"))
    await all_is_done(service, tool)


async def until_listening(server: OwnPostgres, processes: int) -> None:
    async def look() -> bool | None:
        return len(server.listeners()) == processes or None

    await until(look, 20, lambda: "all to listen")


async def test_killed_in_the_middle(service: Service, tool: Tool, own_postgres: OwnPostgres) -> None:
    """It recovers from its write-ahead log, in which all is that was committed, before the lease is over."""
    worker = service.worker(LEASE_SECONDS="30")
    await a_long_job(service, tool)
    await tool.ask("1001")
    enough = asyncio.Event()
    asking = asyncio.create_task(tool.keep_asking(enough, "1002", "1003"))
    await until_accepted(tool, 5)
    own_postgres.kill()
    unavailable(await tool.post(body("1004")))
    own_postgres.start()
    await until_accepted(tool, 7)
    enough.set()
    await asking
    await all_is_done(service, tool)
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def until_accepted(tool: Tool, number: int) -> None:
    async def look() -> bool | None:
        return len(tool.accepted) >= number or None

    await until(look, 20, lambda: f"{number} exports to be accepted")


def through(line: Line, service: Service) -> dict[str, str]:
    name = make_url(service.settings.database_url or "").database
    return {"DATABASE_URL": f"postgresql://postgres@127.0.0.1:{line.port}/{name}"}


async def test_slow(service: Service, stack: AsyncExitStack, own_postgres: OwnPostgres) -> None:
    """Each packet is late, and yet the lease is kept."""
    line = await stack.enter_async_context(line_to(own_postgres))
    line.delay = 0.05
    env = through(line, service) | {"BEAT_SECONDS": "3"}
    tool = await a_tool(service, stack, **env)
    worker = service.worker(**env)
    for workspace in ("1001", "1002"):
        await tool.ask(workspace)
    await all_is_done(service, tool)
    assert "lost" not in worker.output()


async def test_frozen(service: Service, stack: AsyncExitStack, own_postgres: OwnPostgres) -> None:
    """What was sent to it is worked on when nobody waits for the answer any more."""
    tool = await a_tool(service, stack, DATABASE_TIMEOUT_SECONDS="2")
    workers = [service.worker(**BRIEFLY), service.worker(**BRIEFLY)]
    for worker in workers:
        await worker.said("worker.started")
    await a_long_job(service, tool)
    await tool.ask("1001")
    asked_again = body("1002")
    with own_postgres.paused():
        asked = [asyncio.create_task(tool.post(asked_again, key="one")) for _ in range(3)]
        for answer in await asyncio.gather(*asked, tool.http.get("/v1/exports")):
            unavailable(answer)
        for worker in workers:
            await worker.said("worker.lease_lost")
            await worker.said("worker.stopped")

    async def accepted() -> bool | None:
        return (await tool.post(asked_again, key="one")).status_code == 202 or None

    await until(accepted, 20, lambda: "an answer")
    assert len({*tool.accepted}) == 3
    await all_is_done(service, tool)


async def test_lines_that_are_dead_without_saying_so(
    service: Service, stack: AsyncExitStack, own_postgres: OwnPostgres
) -> None:
    """Those that were there; new ones are sound."""
    line = await stack.enter_async_context(line_to(own_postgres))
    env = through(line, service) | {"DATABASE_TIMEOUT_SECONDS": "2"}
    tool = await a_tool(service, stack, **env)
    service.worker(**env)
    await a_long_job(service, tool)
    line.die()
    await tool.ask("1001")
    await tool.ask("1002")
    await all_is_done(service, tool)


async def test_out_of_connections(service: Service, stack: AsyncExitStack, own_postgres: OwnPostgres) -> None:
    async with service.sessions.begin() as session:
        await session.execute(text("CREATE ROLE poor LOGIN"))
        await session.execute(text("GRANT ALL ON ALL TABLES IN SCHEMA public TO poor"))
        await session.execute(text("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO poor"))
    url = make_url(service.settings.database_url or "").set(username="poor")
    env = {"DATABASE_URL": url.render_as_string(hide_password=False)}
    worker = service.worker(**env)
    await worker.said("worker.started")
    tool = await a_tool(service, stack, **env)
    async with service.sessions.begin() as session:
        await session.execute(text("ALTER ROLE poor CONNECTION LIMIT 1"))
    answers = await asyncio.gather(
        *(tool.post(body(workspace)) for workspace in ("1001", "1002", "1003") * 4)
    )
    refused = [answer for answer in answers if answer.status_code != 202]
    assert refused
    for answer in refused:
        unavailable(answer)
    async with service.sessions.begin() as session:
        await session.execute(text("ALTER ROLE poor CONNECTION LIMIT -1"))
    await tool.ask("1001")
    await all_is_done(service, tool)


async def test_a_pool_of_one(service: Service, stack: AsyncExitStack) -> None:
    tool = await a_tool(service, stack, DATABASE_POOL_SIZE="1")
    service.worker(DATABASE_POOL_SIZE="1")
    first = await tool.ask("1001")
    waiting = [asyncio.create_task(tool.http.get(first, headers={"Prefer": "wait=20"})) for _ in range(4)]
    await asyncio.gather(*(tool.ask(workspace) for workspace in ("1001", "1002", "1003") * 3))
    assert {answer.json()["status"] for answer in await asyncio.gather(*waiting)} == {"succeeded"}
    await all_is_done(service, tool)


async def test_read_only_for_a_while(service: Service, tool: Tool, own_postgres: OwnPostgres) -> None:
    worker = service.worker(**BRIEFLY)
    await a_long_job(service, tool)
    await tool.ask("1001")
    with own_postgres.configured(default_transaction_read_only="on"):
        await worker.said("worker.lease_lost")
        await worker.said("worker.stopped")
        unavailable(await tool.post(body("1002")))
    await all_is_done(service, tool)


async def test_no_room_for_what_is_written(service: Service, tool: Tool) -> None:
    """As PostgreSQL says it when its disk is full: here a trigger says so of a table."""
    worker = service.worker()
    await a_long_job(service, tool)
    async with service.sessions.begin() as session:
        await session.execute(
            text("""
            CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$""")
        )
        await session.execute(
            text(
                "CREATE TRIGGER no_room BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION no_room()"
            )
        )
    unavailable(await tool.post(body("1001")))
    await worker.said("no space left")
    async with service.sessions.begin() as session:
        await session.execute(text("DROP TRIGGER no_room ON events"))
    await tool.ask("1001")
    await all_is_done(service, tool)


async def test_a_deadlock_with_a_worker(service: Service, tool: Tool) -> None:
    """Somebody locks a run before its lane; the worker has to give way."""
    service.sandbox.patch(run_seconds=(86_400, 86_400))
    worker = service.worker()
    await tool.ask("1001")
    await worker.said('"phase": "polling"')
    async with service.sessions.begin() as session:
        await session.execute(text("SET LOCAL deadlock_timeout = '20s'"))
        await session.execute(text("SELECT FROM runs FOR UPDATE"))
        service.sandbox.end_job(service.sandbox.jobs()[0].gid)
        await until_somebody_waits(service.sessions)
        await session.execute(text("SELECT FROM lanes FOR UPDATE"))
    await worker.said("deadlock detected")
    await all_is_done(service, tool)


async def test_a_deadlock_with_a_request(service: Service, tool: Tool) -> None:
    """The caller is told to come back, and nothing was accepted meanwhile."""
    wanted = body("1001")
    await tool.post(wanted)
    async with service.sessions.begin() as session:
        await session.execute(text("SET LOCAL deadlock_timeout = '20s'"))
        await session.execute(text("SELECT FROM runs FOR UPDATE"))
        asking = asyncio.create_task(tool.post(wanted))
        await until_somebody_waits(service.sessions)
        await session.execute(text("SELECT FROM lanes FOR UPDATE"))
    unavailable(await asking)
    async with service.sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Export)) == 1
    await tool.ask("1001")
    service.worker()
    await all_is_done(service, tool)
