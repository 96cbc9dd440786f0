"""A standby takes over when the machine of the primary is lost."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import make_url

from tests.faults.tool import a_long_job, a_tool, all_is_done, body, unavailable
from tests.postgres import OwnPostgres, a_folder, line_to
from tests.processes import until
from tests.system.conftest import Service


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def standby(own_postgres: OwnPostgres, stack: AsyncExitStack) -> OwnPostgres:
    """It has to confirm each commit of the primary."""
    standby = own_postgres.clone(stack.enter_context(a_folder()), "standby")
    stack.callback(standby.kill, whole=True)
    standby.start()
    stack.enter_context(own_postgres.configured(synchronous_standby_names="standby"))

    async def follows() -> bool | None:
        return own_postgres.ask("SELECT sync_state FROM pg_stat_replication") == [("sync",)] or None

    await until(follows, 20, lambda: "the standby to follow")
    return standby


@pytest.fixture
async def database_url(
    own_database_url: str, own_postgres: OwnPostgres, standby: OwnPostgres, stack: AsyncExitStack
) -> str:
    """It names both, as one reads it in PostgreSQL's own manual."""
    ports = [(await stack.enter_async_context(line_to(server))).port for server in (own_postgres, standby)]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    name = make_url(own_database_url).database
    return f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"


async def test_the_standby_takes_over(
    service: Service, own_postgres: OwnPostgres, standby: OwnPostgres, stack: AsyncExitStack
) -> None:
    service.worker()
    tool = await a_tool(service, stack, DATABASE_TIMEOUT_SECONDS="2")
    await a_long_job(service, tool)
    await tool.ask("1001")
    await tool.ask("1002")
    wanted = body("1003")
    with standby.paused():
        # Committed, but only where it may be lost: that is nothing to promise.
        unavailable(await tool.post(wanted, key="one"))
    own_postgres.kill(whole=True)
    unavailable(await tool.post(wanted, key="one"))
    standby.promote()

    async def accepted() -> bool | None:
        return (await tool.post(wanted, key="one")).status_code == 202 or None

    await until(accepted, 30, lambda: "the standby to be found")
    await all_is_done(service, tool)
