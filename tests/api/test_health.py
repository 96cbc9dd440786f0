"""What load balancers and orchestrators are told."""

import httpx
import pytest
from sqlalchemy import text

from app.ids import new_worker_id
from app.lanes.lease import register_worker
from tests.api.conftest import Api


@pytest.fixture
async def nobody(api: Api) -> httpx.AsyncClient:
    return await api.anybody()


async def test_without_a_worker_the_service_is_not_ready(api: Api, nobody: httpx.AsyncClient) -> None:
    before = await nobody.get("/readyz")
    async with api.sessions.begin() as session:
        await register_worker(session, new_worker_id(), "test", 60)
        await register_worker(session, new_worker_id(), "gone", -1)
    after = await nobody.get("/readyz")
    expected = {"ready": False, "database": True, "migrations": True, "workers": 0}
    assert (before.status_code, before.json()) == (503, expected)
    assert (after.status_code, after.json()) == (200, expected | {"ready": True, "workers": 1})


async def test_another_schema_is_not_ready(api: Api, nobody: httpx.AsyncClient) -> None:
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    ready = await nobody.get("/readyz")
    assert (ready.status_code, ready.json()["database"], ready.json()["migrations"]) == (503, True, False)


async def test_the_process_is_healthy_whatever_else(nobody: httpx.AsyncClient) -> None:
    assert (await nobody.get("/healthz")).json() == {"status": "ok"}
