"""Tokens go in, and never come out."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.access.models import Credential, CredentialState
from app.access.vault import VaultError, open_vault
from app.api.services import open_services
from app.events.log import Event
from app.exports.models import Status
from app.ids import LaneKey
from app.lanes.enqueue import lock_lane
from app.sandbox.control import SandboxControl
from app.sandbox.faults import Call, FaultKind
from tests.api.conftest import TASKS, Api
from tests.api.test_exports import brought_to
from tests.builders import SERVICE_TOKEN
from tests.conftest import a_secret_key
from tests.locks import until_it_waits, until_somebody_waits

NEW = {"name": "another", "token": SERVICE_TOKEN}


async def test_a_token_is_stored_once_asana_has_told_whose_it_is(api: Api, admin: httpx.AsyncClient) -> None:
    response = await admin.post("/v1/credentials", json=NEW)
    credential = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/credentials/{credential['id']}"
    assert (credential["state"], credential["asana_user_name"]) == ("valid", "service")
    assert (await admin.get(response.headers["Location"])).json() == credential
    assert credential in (await admin.get("/v1/credentials")).json()["items"]
    async with api.sessions() as session:
        kept = await session.get_one(Credential, credential["id"])
        events = list(await session.scalars(select(Event).where(Event.credential == credential["id"])))
    assert SERVICE_TOKEN.encode() not in kept.token
    assert open_vault(api.settings).decrypt(kept.token).get_secret_value() == SERVICE_TOKEN
    assert [event.type for event in events] == ["credential.registered"]
    assert SERVICE_TOKEN not in f"{response.text}{events[0].data}{kept!r}"


async def test_a_token_that_asana_refuses_is_not_stored(admin: httpx.AsyncClient) -> None:
    refused = await admin.post("/v1/credentials", json=NEW | {"token": "not-a-token"})
    assert (refused.status_code, refused.json()["code"]) == (422, "credential-refused")
    assert "Not Authorized" in refused.json()["detail"]
    assert "not-a-token" not in refused.text
    assert len((await admin.get("/v1/credentials")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("fault", "retry_after"),
    [
        ({"kind": FaultKind.STATUS, "status": 500}, "30"),
        ({"kind": FaultKind.STATUS, "status": 429, "retry_after": 7}, "7"),
        ({"kind": FaultKind.DROP_BEFORE, "times": None}, "30"),
    ],
)
async def test_asana_out_of_reach_is_not_a_refusal(
    admin: httpx.AsyncClient, sandbox: SandboxControl, fault: dict[str, Any], retry_after: str
) -> None:
    sandbox.add_fault(Call.ME, **fault)
    response = await admin.post("/v1/credentials", json=NEW)
    assert (response.status_code, response.json()["code"]) == (503, "upstream-unavailable")
    assert response.headers["Retry-After"] == retry_after


@pytest.mark.parametrize("status", [400, 402, 403, 451])
async def test_a_no_of_asana_is_a_refusal(
    admin: httpx.AsyncClient, sandbox: SandboxControl, status: int
) -> None:
    sandbox.add_fault(Call.ME, FaultKind.STATUS, status=status)
    response = await admin.post("/v1/credentials", json=NEW)
    assert (response.status_code, response.json()["code"]) == (422, "credential-refused")


async def test_a_name_is_given_once(admin: httpx.AsyncClient) -> None:
    assert (await admin.post("/v1/credentials", json=NEW)).status_code == 201
    again = await admin.post("/v1/credentials", json=NEW)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX-Evil: 1", "ключ", "x" * 1001])
async def test_a_token_that_no_header_can_carry_is_refused(admin: httpx.AsyncClient, token: str) -> None:
    refused = await admin.post("/v1/credentials", json=NEW | {"token": token})
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/token")
    assert not token or token not in refused.text


async def test_a_replaced_token_makes_an_invalid_credential_valid(
    api: Api, admin: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    async with api.sessions.begin() as session:
        credential = await session.get_one(Credential, api.tenant.credential)
        credential.state = CredentialState.INVALID
    sandbox.add_token("rotated-token", "service")
    answer = await admin.put(f"/v1/credentials/{api.tenant.credential}", json={"token": "rotated-token"})
    assert (answer.status_code, answer.json()["state"]) == (200, "valid")
    async with api.sessions() as session:
        kept = await session.get_one(Credential, api.tenant.credential)
    assert open_vault(api.settings).decrypt(kept.token).get_secret_value() == "rotated-token"


async def test_a_refusal_of_the_old_token_does_not_outlive_it(
    api: Api, admin: httpx.AsyncClient, sandbox: SandboxControl
) -> None:
    """A worker calls the old token invalid in the very moment in which it is replaced."""
    sandbox.add_token("rotated-token", "service")
    address = f"/v1/credentials/{api.tenant.credential}"
    async with api.sessions.begin() as worker:
        credential = await worker.get_one(Credential, api.tenant.credential)
        credential.state = CredentialState.INVALID
        await worker.flush()
        replacing = asyncio.create_task(admin.put(address, json={"token": "rotated-token"}))
        await until_somebody_waits(api.sessions)
    answer = await replacing
    assert (answer.json()["state"], answer.json()["invalid_since"]) == ("valid", None)


@pytest.mark.parametrize("path", [(), (Status.RUNNING,)], ids=["queued", "running"])
async def test_a_token_is_not_replaced_while_a_worker_decides_about_its_lane(
    api: Api, admin: httpx.AsyncClient, sandbox: SandboxControl, path: tuple[Status, ...]
) -> None:
    """It may just have read that the token is invalid, and let the lane wait for another."""
    sandbox.add_token("rotated-token", "service")
    export = (await admin.post("/v1/exports/resource", json=TASKS)).json()
    await brought_to(api, export["id"], *path)
    async with api.sessions.begin() as worker:
        await lock_lane(worker, LaneKey("1001"))
        replacing = asyncio.create_task(
            admin.put(f"/v1/credentials/{api.tenant.credential}", json={"token": "rotated-token"})
        )
        await until_it_waits(api.sessions, replacing)
        assert not replacing.done()
    assert (await replacing).status_code == 200


async def test_an_unknown_credential_is_not_found(admin: httpx.AsyncClient) -> None:
    for answer in (
        await admin.get(f"/v1/credentials/cred_{0:032d}"),
        await admin.put(f"/v1/credentials/cred_{0:032d}", json={"token": SERVICE_TOKEN}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


async def test_an_api_whose_keys_do_not_fit_the_tokens_does_not_start(api: Api) -> None:
    others = api.settings.model_copy(update={"secret_keys": (a_secret_key(),)})
    with pytest.raises(VaultError, match="no key"):
        async with open_services(others):
            pass
