"""The service of real processes, and a PostgreSQL that may be troubled without troubling other tests."""

from collections.abc import Iterator

import pytest

from tests.postgres import OwnPostgres, copied_database, migrated_template, own_server
from tests.system.conftest import service as service


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[OwnPostgres]:
    with own_server() as server:
        yield server


@pytest.fixture(scope="session")
async def own_template(own_postgres: OwnPostgres) -> str:
    return await migrated_template(own_postgres.url)


@pytest.fixture
def own_database_url(own_postgres: OwnPostgres, own_template: str) -> Iterator[str]:
    with copied_database(own_postgres.url, own_template) as url:
        yield url
        own_postgres.as_made()
