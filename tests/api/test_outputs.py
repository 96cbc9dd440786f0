"""Asking for other formats of a file, and following them."""

import httpx
import pytest
from sqlalchemy import func, select, text

from app.access.models import Scope
from app.artifacts.models import Conversion, OutputFile
from app.artifacts.outputs import Format
from app.events.log import Event, EventType
from app.exports.conversions import HeldConversion, claim_conversion, conversion_failed, converted
from app.exports.outputs import visible_output
from app.ids import OutputId, new_output_id, new_worker_id
from app.lanes.lease import register_worker
from app.problems import Code, Problem, ProblemError
from tests.api.conftest import Api
from tests.api.test_limits import asked, succeeded


@pytest.fixture
async def outputs(api: Api, caller: httpx.AsyncClient) -> str:
    """The address of the outputs of a file of the caller's."""
    artifact = await succeeded(api, (await asked(caller)).json()["id"], b"x" * 10)
    return f"/v1/artifacts/{artifact}/outputs"


async def held(api: Api) -> HeldConversion:
    """What was asked for is in the hands of a worker."""
    worker = new_worker_id()
    async with api.sessions.begin() as session:
        await register_worker(session, worker, "somewhere", 600)
        found = await claim_conversion(session, worker)
    assert found
    return found


async def made(api: Api) -> OutputId:
    """A worker has made one file."""
    file = {
        "id": new_output_id(),
        "key": "1001/made.parquet",
        "resource_type": "task",
        "media_type": "application/vnd.apache.parquet",
        "sha256": "0" * 64,
        "bytes": 7,
        "rows": 3,
        "columns": [{"name": "gid", "type": "text"}],
    }
    holding = await held(api)
    async with api.sessions.begin() as session:
        await converted(session, holding, [file])
    return OutputId(str(file["id"]))


async def test_a_format_is_asked_for_and_followed(api: Api, caller: httpx.AsyncClient, outputs: str) -> None:
    asked_for = await caller.post(outputs, json={"format": "parquet"})
    assert asked_for.status_code == 202
    assert asked_for.headers["Location"] == f"{outputs}/parquet"
    assert asked_for.headers["Retry-After"] == "5"
    pending = asked_for.json()
    assert (pending["state"], pending["files"], pending["error"]) == ("pending", [], None)
    assert (await caller.get(asked_for.headers["Location"])).json() == pending
    output = await made(api)
    ready = await caller.get(f"{outputs}/parquet")
    assert "Retry-After" not in ready.headers
    assert ready.json()["state"] == "ready"
    (file,) = ready.json()["files"]
    assert file["url"] == f"{outputs}/parquet/{output}/content"
    assert (file["rows"], file["columns"]) == (3, [{"name": "gid", "type": "text"}])
    assert (await caller.get(outputs)).json()["items"] == [ready.json()]


async def test_asked_for_again_it_is_the_same(api: Api, caller: httpx.AsyncClient, outputs: str) -> None:
    first = await caller.post(outputs, json={"format": "csv"})
    assert (await caller.post(outputs, json={"format": "csv"})).json() == first.json()
    await made(api)
    ready = await caller.post(outputs, json={"format": "csv"})
    assert (ready.status_code, ready.json()["state"]) == (202, "ready")
    async with api.sessions() as session:
        requested = Event.type == EventType.ARTIFACT_CONVERSION_REQUESTED
        assert await session.scalar(select(func.count()).select_from(Event).where(requested)) == 1
        assert await session.scalar(select(func.count()).select_from(Conversion)) == 1


async def test_one_that_has_failed_says_why_and_is_tried_anew(
    api: Api, caller: httpx.AsyncClient, outputs: str
) -> None:
    await caller.post(outputs, json={"format": "csv"})
    holding = await held(api)
    async with api.sessions.begin() as session:
        await conversion_failed(session, holding, Problem(Code.NOT_CONVERTIBLE, "line 7"))
    failed = (await caller.get(f"{outputs}/csv")).json()
    assert (failed["state"], failed["error"]["code"]) == ("failed", "not-convertible")
    again = (await caller.post(outputs, json={"format": "csv"})).json()
    assert (again["state"], again["error"], again["finished_at"]) == ("pending", None, None)


@pytest.mark.parametrize("body", [{"format": "xlsx"}, {}, {"format": "csv", "more": 1}])
async def test_only_known_formats_are_taken(
    caller: httpx.AsyncClient, outputs: str, body: dict[str, object]
) -> None:
    refused = await caller.post(outputs, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation-failed")


async def test_what_nobody_has_asked_for_is_not_there(caller: httpx.AsyncClient, outputs: str) -> None:
    assert (await caller.get(outputs)).json() == {"items": []}
    assert (await caller.get(f"{outputs}/csv")).json()["code"] == "not-found"


async def test_outputs_are_for_those_who_see_the_file(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient, outputs: str
) -> None:
    await caller.post(outputs, json={"format": "csv"})
    other = await api.caller(Scope.ARTIFACTS_READ)
    for refused in (
        await other.post(outputs, json={"format": "csv"}),
        await other.get(outputs),
        await other.get(f"{outputs}/csv"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    assert len((await admin.get(outputs)).json()["items"]) == 1


async def test_nothing_more_is_made_of_an_expired_file(
    api: Api, caller: httpx.AsyncClient, outputs: str
) -> None:
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET expires_at = now()"))
    gone = await caller.post(outputs, json={"format": "csv"})
    assert (gone.status_code, gone.json()["code"]) == (410, "artifact-expired")


async def test_a_file_is_found_for_those_who_see_it(
    api: Api, caller: httpx.AsyncClient, outputs: str
) -> None:
    await caller.post(outputs, json={"format": "parquet"})
    output = await made(api)
    async with api.sessions() as session:
        stored = await session.get_one(OutputFile, output)
        file, artifact, _ = await visible_output(session, api.tenant.client, stored.artifact, output)
        assert (file.key, artifact.id, file.format) == ("1001/made.parquet", stored.artifact, Format.PARQUET)
        with pytest.raises(ProblemError, match="no output"):
            await visible_output(session, api.tenant.client, stored.artifact, new_output_id())
