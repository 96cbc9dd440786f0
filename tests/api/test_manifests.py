"""What is told of a file: only when there is one, and no longer than it is kept."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.artifacts.models import Artifact
from app.exports.models import Run, Status
from app.problems import Code, Problem
from tests.api.conftest import TASKS, Api, other_tasks
from tests.api.test_exports import brought_to
from tests.api.test_limits import asked, succeeded

SAME = ("url", "bytes", "uncompressed_bytes", "sha256", "media_type")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def finished(api: Api, caller: httpx.AsyncClient, **known: Any) -> str:
    """An export with a file of which so much is known; returns its address."""
    export = (await asked(caller)).json()["id"]
    artifact = await succeeded(api, export, b"x" * 10)
    async with api.sessions.begin() as session:
        for name, value in known.items():
            setattr(await session.get_one(Artifact, artifact), name, value)
    return f"/v1/exports/{export}"


async def test_a_manifest_tells_what_to_download_and_what_to_find_there(
    api: Api, caller: httpx.AsyncClient
) -> None:
    known: dict[str, Any] = {"lines": 3, "by_type": {"task": 3}, "duplicate_gids": 1}
    paths = {"task": ["gid", "name"]}
    export = await finished(api, caller, key_paths=paths, uncompressed_bytes=50, **known)
    async with api.sessions.begin() as session:
        await session.execute(
            update(Run).values(data_from=CREATED, data_to=CREATED, asana_job="7", asana_export="8")
        )
    answer = await caller.get(export + "/manifest")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    told, shown = answer.json(), (await caller.get(export)).json()
    artifact = shown["artifact"]
    assert told.pop("schemas")["task"]["paths"] == paths["task"]
    assert told == {
        "transaction_time": "2026-01-02T03:04:05Z",
        "request": shown["request"],
        "requires_access_token": True,
        "output": [
            {"type": "task", "count": 3} | {name: artifact[name] for name in SAME},
        ],
        "deleted": [],
        "data_as_of": {"from": "2026-01-02T03:04:05Z", "to": "2026-01-02T03:04:05Z"},
        "totals": known,
        "upstream": {"job": "7", "export": "8"},
        "expires_at": artifact["expires_at"],
    }
    assert (await caller.get(told["output"][0]["url"])).content == b"x" * 10


async def test_a_file_of_several_types_has_none_itself(api: Api, caller: httpx.AsyncClient) -> None:
    export = await finished(api, caller, lines=2, by_type={"task": 1, "team": 1})
    assert (await caller.get(export + "/manifest")).json()["output"][0]["type"] is None


async def test_what_was_not_looked_at_is_told_as_unknown(api: Api, caller: httpx.AsyncClient) -> None:
    """By workers of the version before."""
    told = (await caller.get(await finished(api, caller, duplicate_gids=None) + "/manifest")).json()
    assert (told["schemas"], told["totals"]["duplicate_gids"]) == (None, None)


async def test_keys_too_many_to_keep_are_told_as_unknown(api: Api, caller: httpx.AsyncClient) -> None:
    told = (await caller.get(await finished(api, caller, key_paths={"task": None}) + "/manifest")).json()
    assert told["schemas"] == {"task": {"fingerprint": None, "paths": None}}


async def test_a_manifest_is_not_sent_twice(api: Api, caller: httpx.AsyncClient) -> None:
    export = await finished(api, caller)
    etag = (await caller.get(export + "/manifest")).headers["ETag"]
    again = await caller.get(export + "/manifest", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)


@pytest.mark.parametrize("part", ["manifest", "receipt"])
async def test_an_export_that_goes_on_says_when_to_come_back(
    api: Api, caller: httpx.AsyncClient, part: str
) -> None:
    export = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    for status in (None, Status.RUNNING, Status.ARCHIVING):
        await brought_to(api, export, *([status] if status else []))
        refused = await caller.get(f"/v1/exports/{export}/{part}")
        assert (refused.status_code, refused.json()["code"]) == (409, "not-ready")
        assert int(refused.headers["Retry-After"]) >= 5


@pytest.mark.parametrize("part", ["manifest", "receipt"])
async def test_an_export_that_ended_without_a_file_has_neither(
    api: Api, caller: httpx.AsyncClient, part: str
) -> None:
    canceled = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    await caller.post(f"/v1/exports/{canceled}/cancel")
    failed = (await caller.post("/v1/exports/resource", json=other_tasks())).json()["id"]
    await brought_to(api, failed, Status.FAILED, problem=Problem(Code.UPSTREAM_FAILED, "no reason"))
    for export, status in ((canceled, "canceled"), (failed, "failed")):
        refused = await caller.get(f"/v1/exports/{export}/{part}")
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
        assert status in refused.json()["detail"]


async def test_after_its_retention_a_file_has_no_manifest(api: Api, caller: httpx.AsyncClient) -> None:
    gone = await caller.get(await finished(api, caller, expires_at=CREATED) + "/manifest")
    assert (gone.status_code, gone.json()["code"]) == (410, "artifact-expired")


@pytest.mark.parametrize("part", ["manifest", "receipt"])
async def test_what_is_known_of_a_file_is_for_its_client_alone(
    api: Api, caller: httpx.AsyncClient, part: str
) -> None:
    export = await finished(api, caller)
    refused = await (await api.caller()).get(f"{export}/{part}")
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
