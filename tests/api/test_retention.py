"""How long files are kept, who may end or hold them, and what is answered from then on."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Scope
from app.access.vault import Vault
from app.artifacts.models import Artifact
from app.clock import SystemClock
from app.database.session import Database
from app.events.log import Event
from app.exports.models import Export, Status
from app.exports.runs import HeldArchive, archived
from app.exports.states import locked_run
from app.ids import new_worker_id
from app.lanes.lease import register_worker
from app.settings import Settings
from app.worker.process import worker_context
from app.worker.retention import keep_retention
from tests.api.conftest import TASKS, TOOL, Api, served
from tests.api.test_clients import made
from tests.api.test_exports import brought_to
from tests.api.test_limits import asked, succeeded
from tests.api.test_outputs import made as made_of_it
from tests.builders import a_tenant, an_artifact, deleted
from tests.locks import until_somebody_waits
from tests.stores import S3

DAY = timedelta(days=1)
CONTENT = b"x" * 10


@pytest.fixture
async def artifact(api: Api, caller: httpx.AsyncClient) -> str:
    """The address of a file of the caller's."""
    return f"/v1/artifacts/{await succeeded(api, (await asked(caller)).json()['id'], CONTENT)}"


async def recorded(api: Api, export_id: str) -> None:
    """A worker has archived its file."""
    await brought_to(api, export_id, Status.RUNNING, Status.ARCHIVING)
    async with api.sessions.begin() as session:
        worker = new_worker_id()
        await register_worker(session, worker, "somewhere", 600)
        run = await locked_run(session, (await session.get_one(Export, export_id)).run)
        run.archiver, run.submitted_at, run.slot_freed_at = worker, datetime.now(UTC), datetime.now(UTC)
        await session.flush()
        archive = HeldArchive(run.id, worker, run.archive_fence)
        file = an_artifact(archive)
        file.expires_at = datetime.now(UTC) + 90 * DAY
        await archived(session, archive, file, [])


async def days_left(api: Api, caller: httpx.AsyncClient, export_id: str) -> int:
    told = (await caller.get(f"/v1/exports/{export_id}")).json()["artifact"]["expires_at"]
    return round((datetime.fromisoformat(told) - datetime.now(UTC)) / DAY)


async def code_of(answer: Any) -> tuple[int, str]:
    found: httpx.Response = await answer
    return found.status_code, found.json()["code"]


async def events(api: Api) -> list[Event]:
    async with api.sessions() as session:
        about = select(Event).where(Event.type.like("artifact.%")).order_by(Event.seq)
        return list(await session.scalars(about))


@pytest.mark.parametrize(
    ("of_client", "of_workspace", "kept"), [(None, None, 90), (None, 30, 30), (7, 30, 7), (400, None, 400)]
)
async def test_a_file_is_kept_as_its_client_wishes_else_its_workspace_else_by_default(
    api: Api, admin: httpx.AsyncClient, of_client: int | None, of_workspace: int | None, kept: int
) -> None:
    body = {"credential": api.tenant.credential, "retention_days": of_workspace}
    assert (await admin.put("/v1/workspaces/1001", json=body)).json()["retention_days"] == of_workspace
    caller = await api.with_key((await made(admin, retention_days=of_client))["key"])
    export = (await asked(caller)).json()["id"]
    await recorded(api, export)
    assert await days_left(api, caller, export) == kept


async def test_of_those_who_share_a_run_the_longest_wish_counts(api: Api, admin: httpx.AsyncClient) -> None:
    long, short, left = [
        await api.with_key((await made(admin, name=f"for {days}", retention_days=days))["key"])
        for days in (200, 10, 300)
    ]
    sent = [await each.post("/v1/exports/resource", json=TASKS) for each in (long, short, left)]
    await left.post(sent[-1].headers["Location"] + "/cancel")
    export = sent[0].json()["id"]
    await recorded(api, export)
    assert await days_left(api, long, export) == 200


async def test_an_export_that_joins_later_lengthens_it_and_never_shortens_it(
    api: Api, admin: httpx.AsyncClient
) -> None:
    first = await api.with_key((await made(admin, name="first", retention_days=20))["key"])
    export = (await first.post("/v1/exports/resource", json=TASKS)).json()["id"]
    await recorded(api, export)
    for days, kept in ((5, 20), (50, 50)):
        other = await api.with_key((await made(admin, name=f"for {days}", retention_days=days))["key"])
        joined = (await other.post("/v1/exports/resource", json=TASKS | {"max_age": 600})).json()
        assert joined["status"] == "succeeded"
        assert await days_left(api, first, export) == kept
    (lengthened,) = await events(api)
    assert (lengthened.type, lengthened.actor, lengthened.run) == (
        "artifact.extended",
        "client:for 50",
        joined["run"]["id"],
    )


async def test_a_file_that_is_missing_is_not_shared(api: Api, caller: httpx.AsyncClient) -> None:
    export = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    await recorded(api, export)
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET missing_since = now()"))
    again = await caller.post("/v1/exports/resource", json=TASKS | {"max_age": 600})
    assert again.json()["status"] == "queued"


async def test_a_file_that_ends_while_it_is_joined_is_not_shared(api: Api, caller: httpx.AsyncClient) -> None:
    """Whoever deletes it has its lock: who joins waits, and then gets a run of their own."""
    export = (await caller.post("/v1/exports/resource", json=TASKS)).json()["id"]
    await recorded(api, export)
    async with api.sessions.begin() as session:
        await deleted(session, (await session.scalars(select(Artifact).with_for_update())).one())
        joining = asyncio.create_task(caller.post("/v1/exports/resource", json=TASKS | {"max_age": 600}))
        await until_somebody_waits(api.sessions)
    assert (await joining).json()["status"] == "queued"


@pytest.mark.parametrize("days", [0, 3651, -1, 1.5, "7", True])
async def test_a_wish_has_bounds(api: Api, admin: httpx.AsyncClient, days: object) -> None:
    client = (await made(admin))["id"]
    for refused in (
        await admin.post("/v1/clients", json={"name": "x", "scopes": ["admin"], "retention_days": days}),
        await admin.patch(f"/v1/clients/{client}", json={"retention_days": days}),
        await admin.put(
            "/v1/workspaces/1001", json={"credential": api.tenant.credential, "retention_days": days}
        ),
    ):
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/retention_days")


async def test_a_wish_is_changed_and_taken_back(admin: httpx.AsyncClient) -> None:
    client = f"/v1/clients/{(await made(admin, retention_days=3650))['id']}"
    assert (await admin.get(client)).json()["retention_days"] == 3650
    assert (await admin.patch(client, json={"max_queued": 1})).json()["retention_days"] == 3650
    assert (await admin.patch(client, json={"retention_days": None})).json()["retention_days"] is None


async def test_a_deleted_file_is_gone_everywhere_but_its_receipt_stays(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient, artifact: str
) -> None:
    await caller.post(f"{artifact}/outputs", json={"format": "parquet"})
    output = await made_of_it(api)
    export = (await caller.get("/v1/exports")).json()["items"][0]["id"]
    seen = (await caller.get(f"/v1/exports/{export}")).headers["ETag"]
    receipt = (await caller.get(f"/v1/exports/{export}/receipt")).text
    for _ in range(2):
        assert (await caller.delete(f"{artifact}?note=by+request")).status_code == 204
    for gone in (
        caller.get(f"{artifact}/content"),
        caller.get(f"{artifact}/content?dedupe=gid"),
        caller.get(f"/v1/exports/{export}/manifest"),
        caller.get(f"{artifact}/outputs"),
        caller.get(f"{artifact}/outputs/parquet"),
        caller.get(f"{artifact}/outputs/parquet/{output}/content"),
        caller.post(f"{artifact}/outputs", json={"format": "csv"}),
        caller.post(f"{artifact}/refetch"),
        caller.get(f"{artifact}/refetch"),
        admin.put(f"{artifact}/hold", json={}),
    ):
        assert await code_of(gone) == (410, "artifact-expired")
    assert (await caller.head(f"{artifact}/content")).status_code == 410
    now = await caller.get(f"/v1/exports/{export}", headers={"If-None-Match": seen})
    assert (now.status_code, now.json()["status"], now.json()["artifact"]["state"]) == (
        200,
        "succeeded",
        "deleted",
    )
    assert (await caller.get(f"/v1/exports/{export}/receipt")).text == receipt
    *_, told = await events(api)
    assert (told.type, told.actor, told.lane) == ("artifact.deleted", "client:caller 1", "1001")
    assert (told.data["artifact"], told.data["note"]) == (artifact.rsplit("/", 1)[-1], "by request")
    assert [event.type for event in await events(api)].count(told.type) == 1


async def test_a_file_is_deleted_by_those_who_see_it(api: Api, artifact: str) -> None:
    assert await code_of((await api.caller()).delete(artifact)) == (404, "not-found")
    assert await code_of((await api.caller(Scope.ARTIFACTS_READ)).delete(artifact)) == (403, "scope-missing")


async def test_a_file_of_two_clients_is_deleted_by_administrators_alone(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient
) -> None:
    other = await api.caller()
    sent = [await each.post("/v1/exports/resource", json=TASKS) for each in (caller, caller, other)]
    address = f"/v1/artifacts/{await succeeded(api, sent[0].json()['id'], CONTENT)}"
    assert await code_of(caller.delete(address)) == (409, "artifact-shared")
    assert (await other.get(f"{address}/content")).content == CONTENT
    assert (await admin.delete(address)).status_code == 204
    assert (await other.get(f"{address}/content")).status_code == 410


async def test_a_file_of_one_client_alone_is_deleted_by_it(api: Api, caller: httpx.AsyncClient) -> None:
    other = await api.caller()
    sent = [await each.post("/v1/exports/resource", json=TASKS) for each in (caller, caller, other)]
    await other.post(sent[-1].headers["Location"] + "/cancel")
    address = f"/v1/artifacts/{await succeeded(api, sent[0].json()['id'], CONTENT)}"
    assert (await caller.delete(address)).status_code == 204


async def test_a_held_file_stays(
    api: Api, caller: httpx.AsyncClient, admin: httpx.AsyncClient, artifact: str
) -> None:
    for _ in range(2):
        assert (await admin.put(f"{artifact}/hold", json={"note": "case 7"})).status_code == 204
    for each in (caller, admin):
        assert await code_of(each.delete(artifact)) == (409, "legal-hold")
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET expires_at = now() - interval '1 day'"))
    content = await caller.get(f"{artifact}/content")
    assert (content.content, "Sunset" in content.headers) == (CONTENT, False)
    assert (await caller.get("/v1/exports")).json()["items"][0]["artifact"]["held_since"] is not None
    for _ in range(2):
        assert (await admin.delete(f"{artifact}/hold?note=closed")).status_code == 204
    export = (await caller.get("/v1/exports")).json()["items"][0]
    assert (export["artifact"]["state"], export["artifact"]["held_since"]) == ("available", None)
    assert await days_left(api, caller, export["id"]) == 3
    assert [(event.type, event.data.get("note")) for event in await events(api)] == [
        ("artifact.held", "case 7"),
        ("artifact.released", "closed"),
        ("artifact.extended", "closed"),
    ]
    assert (await caller.delete(artifact)).status_code == 204


async def test_a_refetch_is_asked_for_once_and_followed(
    api: Api, caller: httpx.AsyncClient, artifact: str
) -> None:
    assert await code_of(caller.get(f"{artifact}/refetch")) == (404, "not-found")
    first, again = [await caller.post(f"{artifact}/refetch", json={"note": "cut"}) for _ in range(2)]
    assert (first.status_code, first.json()) == (202, again.json())
    assert first.headers["Retry-After"] == "5"
    assert (await caller.get(first.headers["Location"])).json() == first.json()
    assert (first.json()["state"], first.json()["error"]) == ("pending", None)
    (told,) = await events(api)
    assert (told.type, told.data["note"]) == ("artifact.refetch_requested", "cut")
    assert await code_of((await api.caller()).post(f"{artifact}/refetch")) == (404, "not-found")


async def test_asana_keeps_files_for_thirty_days(api: Api, caller: httpx.AsyncClient, artifact: str) -> None:
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE runs SET slot_freed_at = now() - interval '31 days'"))
    assert await code_of(caller.post(f"{artifact}/refetch")) == (409, "upstream-artifact-expired")


async def test_the_quota_counts_what_is_kept_with_what_was_made_of_it(
    api: Api, admin: httpx.AsyncClient
) -> None:
    """Seven bytes are those of the table."""
    caller = await api.with_key(
        (await made(admin, max_stored_bytes=100, max_queued=None, scopes=[*TOOL]))["key"]
    )

    async def left() -> int:
        told = (await caller.post("/v1/exports/resource", json=TASKS)).headers["RateLimit"]
        return int(told.split('"stored-bytes";r=')[1].split(",")[0].split(";")[0])

    artifact = await succeeded(api, (await asked(caller)).json()["id"], CONTENT)
    assert await left() == 90
    await caller.post(f"/v1/artifacts/{artifact}/outputs", json={"format": "parquet"})
    await made_of_it(api)
    assert await left() == 83
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET expires_at = now()"))
    assert await left() == 100
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE artifacts SET held_at = now()"))
    assert await left() == 83
    await admin.delete(f"/v1/artifacts/{artifact}/hold")
    await caller.delete(f"/v1/artifacts/{artifact}")
    assert await left() == 100


BIG = os.urandom(1 << 20) * 30


@pytest.fixture(params=["folder", "bucket"])
async def stored_api(
    request: pytest.FixtureRequest,
    settings: Settings,
    sessions: async_sessionmaker[AsyncSession],
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Api]:
    if request.param == "bucket":
        s3: S3 = request.getfixturevalue("s3")
        s3.be_known(monkeypatch)
        settings = settings.model_copy(update={"store_url": s3.place()})
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    async with served(settings) as (url, services), AsyncExitStack() as stack:
        yield Api(url, settings, sessions, stack, tenant, services)


async def test_a_download_that_has_begun_ends_well_though_retention_passes(
    stored_api: Api, database: Database
) -> None:
    """In a bucket the bytes stay for hours; in a folder it ends well even without them."""
    api, caller = stored_api, await stored_api.caller()
    address = f"/v1/artifacts/{await succeeded(api, (await asked(caller)).json()['id'], BIG)}/content"
    spans = ["0 hours", "5 hours 59 minutes"] + ["6 hours"] * (api.services.store.folder is not None)
    async with (
        worker_context(api.settings, database, SystemClock()) as ctx,
        caller.stream("GET", address) as download,
    ):
        pieces = download.aiter_bytes(1 << 16)
        received = [await anext(pieces)]
        async with api.sessions.begin() as session:
            await session.execute(text("UPDATE artifacts SET expires_at = now() - interval '1 second'"))
        for span in spans:
            await keep_retention(ctx)
            async with api.sessions.begin() as session:
                await session.execute(text(f"UPDATE artifacts SET ended_at = now() - interval '{span}'"))
        await keep_retention(ctx)
        assert (await caller.get(address)).status_code == 410
        received += [piece async for piece in pieces]
    assert b"".join(received) == BIG
    assert bool([entry async for entry in api.services.store.files()]) is (len(spans) == 2)
