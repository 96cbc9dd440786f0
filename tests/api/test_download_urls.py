"""Download URLs of jobs: signed, without a key, for an hour."""

import gzip
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.credentials import rotate_keys
from app.access.models import Scope
from app.access.vault import Vault, open_vault
from app.artifacts.models import Artifact
from app.clock import SystemClock
from app.events.log import Cause
from app.sandbox.control import SandboxControl
from app.settings import Settings
from tests.api.conftest import Api, code_of, served
from tests.api.test_asana import GRAPH, RESOURCE, export_of, looked_at, started
from tests.api.test_limits import succeeded
from tests.builders import SERVICE_TOKEN, a_tenant
from tests.conftest import a_secret_key

FILE = gzip.compress(b'{"gid":"1","resource_type":"task"}\n')


class Ahead(SystemClock):
    """A clock that is `by` so much ahead."""

    by = timedelta()

    def now(self) -> datetime:
        return super().now() + self.by


@pytest.fixture
async def caller(api: Api) -> httpx.AsyncClient:
    return await api.caller()


async def download_url(api: Api, caller: httpx.AsyncClient) -> str:
    """Of a job that has succeeded."""
    job = await started(caller)
    await succeeded(api, await export_of(api, job), FILE)
    made = (await looked_at(caller, job))["new_graph_export"]
    assert made["created_at"] <= made["completed_at"]
    url: str = made["download_url"]
    assert url.startswith(f"{api.url}/api/1.0/jobs/{job['gid']}/content?signature=")
    return url


async def test_a_file_is_fetched_without_a_key(api: Api, caller: httpx.AsyncClient) -> None:
    url, nobody = await download_url(api, caller), await api.anybody()
    whole = await nobody.get(url)
    assert (whole.status_code, whole.content) == (200, FILE)
    assert whole.headers["Content-Type"] == "application/gzip"
    assert whole.headers["Content-Disposition"].endswith('.jsonl.gz"')
    head = await nobody.head(url)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(FILE)))
    etag = head.headers["ETag"]
    assert (await nobody.get(url, headers={"If-None-Match": etag})).status_code == 304
    part = await nobody.get(url, headers={"Range": "bytes=5-9", "If-Range": etag})
    assert (part.status_code, part.content) == (206, FILE[5:10])
    beyond = await nobody.get(url, headers={"Range": "bytes=5000-"})
    assert (beyond.status_code, code_of(beyond)) == (416, "range-not-satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{len(FILE)}"
    # The SDK's users may send their token along.
    assert (await caller.get(url)).status_code == 200


async def test_a_resource_export_has_one_too(api: Api, caller: httpx.AsyncClient) -> None:
    job = await started(caller, RESOURCE)
    await succeeded(api, await export_of(api, job), FILE)
    url = (await looked_at(caller, job))["new_resource_export"]["download_url"]
    assert (await (await api.anybody()).get(url)).content == FILE
    again = await caller.post("/api/1.0/exports/resource", json={"data": RESOURCE["data"] | {"max_age": 60}})
    assert again.json()["data"]["status"] == "succeeded"
    assert again.json()["data"]["new_resource_export"]["download_url"]


async def test_what_was_tampered_with_opens_nothing(
    api: Api, caller: httpx.AsyncClient, vault: Vault
) -> None:
    url, other = await download_url(api, caller), await started(caller, RESOURCE)
    (signature,) = parse_qs(urlsplit(url).query)["signature"]
    bare, gid = url.partition("?")[0], urlsplit(url).path.split("/")[4]
    other_letter = "A" if signature[30] == "B" else "B"
    token = vault.encrypt(SecretStr(SERVICE_TOKEN)).decode()
    said = vault.decrypt(signature.encode()).get_secret_value()
    of_another_kind = vault.encrypt(SecretStr(said.replace("download", "upload"))).decode()
    wrong = [
        bare,
        f"{bare}?signature=",
        f"{bare}?signature=%ff%00",
        f"{bare}?signature={quote(signature[:30] + other_letter + signature[31:])}",
        f"{bare}?signature={quote(signature * 9)}",
        f"{bare}?signature={quote(token)}",
        f"{bare}?signature={quote(of_another_kind)}",
        url.replace(gid, other["gid"]),
    ]
    nobody = await api.anybody()
    for each in wrong:
        answer = await nobody.get(each)
        assert (answer.status_code, code_of(answer)) == (403, "download-url-refused"), each
        assert signature not in answer.text


async def test_a_url_of_a_service_with_other_keys_opens_nothing(
    api: Api, caller: httpx.AsyncClient, settings: Settings
) -> None:
    url = await download_url(api, caller)
    (signature,) = parse_qs(urlsplit(url).query)["signature"]
    stranger = open_vault(settings.model_copy(update={"secret_keys": (a_secret_key(),)}))
    said = api.services.vault.decrypt(signature.encode())
    forged = f"{url.partition('?')[0]}?signature={quote(stranger.encrypt(said).decode())}"
    assert (await (await api.anybody()).get(forged)).status_code == 403


async def test_a_url_dies_with_its_clients_key(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    url, nobody = await download_url(api, caller), await api.anybody()
    (client,) = [c for c in (await admin.get("/v1/clients")).json()["items"] if c["name"] == "caller 1"]
    address = f"/v1/clients/{client['id']}"
    await admin.patch(address, json={"scopes": [Scope.EXPORTS_READ]})
    answer = await nobody.get(url)
    assert (answer.status_code, code_of(answer)) == (403, "scope-missing")
    await admin.patch(address, json={"scopes": [Scope.ARTIFACTS_READ]})
    assert (await nobody.get(url)).status_code == 200
    await admin.post(f"{address}/revoke")
    assert code_of(await nobody.get(url)) == "download-url-refused"
    # Let in again by another key, it gets other URLs.
    await admin.post(f"{address}/key")
    assert code_of(await nobody.get(url)) == "download-url-refused"


async def test_a_file_that_is_no_longer_kept_is_gone(api: Api, caller: httpx.AsyncClient) -> None:
    url, nobody = await download_url(api, caller), await api.anybody()
    async with api.sessions.begin() as session:
        await session.execute(update(Artifact).values(expires_at=func.now()))
    gone = await nobody.get(url)
    assert (gone.status_code, code_of(gone)) == (410, "artifact-expired")


@pytest.fixture
async def later(
    settings: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault, sandbox: SandboxControl
) -> AsyncIterator[tuple[Api, Ahead]]:
    """A service with a clock to be moved, behind an address of its own."""
    clock = Ahead()
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    told = settings.model_copy(
        update={"asana_url": sandbox.api_url, "public_url": "https://exports.example/asana"}
    )
    async with served(told, clock) as (url, services), AsyncExitStack() as stack:
        yield Api(url, told, sessions, stack, tenant, services), clock


async def test_a_url_lasts_an_hour_from_each_look(later: tuple[Api, Ahead]) -> None:
    api, clock = later
    caller, nobody = await api.caller(), await api.anybody()
    job = await started(caller, GRAPH)
    await succeeded(api, await export_of(api, job), FILE)

    async def url() -> str:
        found: str = (await looked_at(caller, job))["new_graph_export"]["download_url"]
        assert found.startswith("https://exports.example/asana/api/1.0/jobs/")
        return found.removeprefix("https://exports.example/asana")

    first = await url()
    clock.by += timedelta(minutes=59)
    assert (await nobody.get(first)).status_code == 200
    second = await url()
    clock.by += timedelta(minutes=2)
    expired = await nobody.get(first)
    assert (expired.status_code, code_of(expired)) == (403, "download-url-refused")
    assert (await nobody.get(second)).status_code == 200


async def test_a_url_outlasts_a_rotation_of_the_keys(
    api: Api, caller: httpx.AsyncClient, settings: Settings, sessions: async_sessionmaker[AsyncSession]
) -> None:
    """For as long as the old key is still among them, as it is at first."""
    url = await download_url(api, caller)
    rotated = api.settings.model_copy(update={"secret_keys": (a_secret_key(), *settings.secret_keys)})
    await rotate_keys(sessions, rotated, Cause("test"))
    async with served(rotated) as (other, _):
        elsewhere = url.replace(api.url, other)
        assert (await (await api.anybody()).get(elsewhere)).content == FILE
