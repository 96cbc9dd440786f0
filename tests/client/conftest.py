"""A served API with a worker and the sandbox, and the client in both its faces."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from asana_exports_client import AsyncClient
from tests.client.faces import FACES, face
from tests.processes import Process
from tests.system.conftest import Service
from tests.system.conftest import service as service

NewClient = Callable[..., AsyncClient]
ClientAt = Callable[[str], AsyncClient]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def api(service: Service) -> str:
    """The address of a service that works."""
    service.worker()
    return await service.api().address()


@pytest.fixture(params=FACES)
def which(request: pytest.FixtureRequest) -> str:
    """The face that is tried."""
    name: str = request.param
    return name


@pytest.fixture
async def new_client(which: str) -> AsyncIterator[NewClient]:
    """Makes clients of any address, and ends them."""
    made: list[AsyncClient] = []

    def client(url: str, key: str = "a key", **options: Any) -> AsyncClient:
        made.append(face(which, url, key, **options))
        return made[-1]

    yield client
    for each in made:
        await each.aclose()


@pytest.fixture
def client_at(service: Service, new_client: NewClient) -> ClientAt:
    """Makes clients with every right that find the service at an address."""

    def client(url: str) -> AsyncClient:
        return new_client(url, service.tenants["1001"].key)

    return client


@pytest.fixture
def client(api: str, client_at: ClientAt) -> AsyncClient:
    """A client of the service, with every right."""
    return client_at(api)


def port_of(url: str) -> str:
    return url.rsplit(":", 1)[-1]


async def restarted(service: Service, api: Process, url: str) -> None:
    """The API killed, and another one at the same address."""
    api.kill()
    await service.api(PORT=port_of(url)).address()
