"""Whose a file is, and that it is sent whole or not at all."""

import httpx

from tests.api.conftest import Api
from tests.api.test_limits import asked, succeeded


async def test_a_file_is_for_its_client_alone(api: Api, caller: httpx.AsyncClient) -> None:
    artifact = await succeeded(api, (await asked(caller)).json()["id"], b"x" * 10)
    address = f"/v1/artifacts/{artifact}/content"
    refused = await (await api.caller()).get(address)
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    assert (await caller.get(address)).content == b"x" * 10


async def test_a_file_that_was_cut_on_the_disk_is_not_sent(api: Api, caller: httpx.AsyncClient) -> None:
    artifact = await succeeded(api, (await asked(caller)).json()["id"], b"x" * 10)
    (file,) = api.settings.files_dir.glob("1001/*")
    file.write_bytes(b"x" * 9)
    refused = await caller.get(f"/v1/artifacts/{artifact}/content")
    assert (refused.status_code, refused.json()["code"]) == (500, "artifact-missing")
