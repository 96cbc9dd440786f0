"""What load balancers and orchestrators are told."""

from contextlib import AsyncExitStack

import httpx
import pytest
from sqlalchemy import text

from app.ids import new_worker_id
from app.lanes.lease import register_worker
from tests.api.conftest import Api
from tests.postgres import cut_off


@pytest.fixture
async def nobody(api: Api) -> httpx.AsyncClient:
    return await api.anybody()


async def test_without_a_worker_requests_are_taken_and_wait(api: Api, nobody: httpx.AsyncClient) -> None:
    before = await nobody.get("/readyz")
    async with api.sessions.begin() as session:
        await register_worker(session, new_worker_id(), "test", 60)
        await register_worker(session, new_worker_id(), "gone", -1)
    after = await nobody.get("/readyz")
    expected = {"ready": True, "stopping": False, "database": True, "migrations": True, "workers": 0}
    assert (before.status_code, before.json()) == (200, expected)
    assert (after.status_code, after.json()) == (200, expected | {"workers": 1})


@pytest.mark.parametrize(
    ("step", "ready"), [("'0001'", False), ("'made by a newer version'", True), (None, False)]
)
async def test_a_schema_that_lacks_something_is_not_ready(
    api: Api, nobody: httpx.AsyncClient, step: str | None, *, ready: bool
) -> None:
    change = f"UPDATE alembic_version SET version_num = {step}" if step else "DELETE FROM alembic_version"
    async with api.sessions.begin() as session:
        await session.execute(text(change))
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200 if ready else 503, ready)
    assert (answer.json()["database"], answer.json()["migrations"]) == (True, ready)


async def test_a_process_that_was_told_to_stop_is_not_ready_and_lets_connections_go(
    api: Api, nobody: httpx.AsyncClient
) -> None:
    assert "Connection" not in (await nobody.get("/healthz")).headers
    api.services.stopping.set()
    answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()["stopping"], answer.json()["ready"]) == (503, True, False)
    alive = await nobody.get("/healthz")
    assert (alive.status_code, alive.headers["Connection"]) == (200, "close")


async def test_a_process_stays_in_rotation_while_the_database_is_away(
    api: Api, nobody: httpx.AsyncClient, postgres_url: str
) -> None:
    with cut_off(api.settings, postgres_url):
        never_seen = await nobody.get("/readyz")
    assert (never_seen.status_code, never_seen.json()["database"]) == (503, False)
    assert (await nobody.get("/readyz")).status_code == 200
    with cut_off(api.settings, postgres_url):
        away = await nobody.get("/readyz")
    assert (away.status_code, away.json()["ready"], away.json()["database"]) == (200, True, False)


async def test_readiness_waits_for_no_request(api: Api, nobody: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as busy:
        for _ in range(api.settings.database_pool_size):
            session = await busy.enter_async_context(api.services.sessions())
            await session.execute(text("SELECT 1"))
        answer = await nobody.get("/readyz")
    assert (answer.status_code, answer.json()["database"]) == (200, True)


async def test_the_process_is_healthy_whatever_else(nobody: httpx.AsyncClient) -> None:
    assert (await nobody.get("/healthz")).json() == {"status": "ok"}
