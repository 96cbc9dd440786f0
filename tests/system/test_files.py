"""What callers get of a file: the whole, a part, each object once, a table; of a folder and of a bucket."""

import csv
import gzip
import hashlib
import io

import httpx
import orjson
import pytest

from app.lanes.models import WaitReason
from tests.processes import until
from tests.servers import always, answer, serving
from tests.stores import S3
from tests.system.conftest import BRIEFLY, Service
from tests.system.exports import assert_verified, resource
from tests.system.test_http import Json, caller, ended

LINES = {"Accept": "application/x-ndjson"}
# Each task fits both filters.
TWICE = {
    "workspace": "1001",
    "export_request_parameters": [
        {"resource_type": "task", "filters": {"modified_at.after": "2000-01-01T00:00:00Z"}},
        {"resource_type": "task", "filters": {"created_at.after": "2000-01-01T00:00:00Z"}},
    ],
}


@pytest.fixture(params=["folder", "bucket", "bucket by signed addresses"])
def store_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "folder":
        return ""
    s3: S3 = request.getfixturevalue("s3")
    s3.be_known(monkeypatch)
    if request.param != "bucket":
        monkeypatch.setenv("ASANA_EXPORTS_DELIVERY", "redirect")
    return s3.place()


async def finished(tool: httpx.AsyncClient, wanted: Json) -> Json:
    sent = await tool.post("/v1/exports/resource", json=wanted)
    export = await ended(tool, sent.headers["Location"])
    assert export["status"] == "succeeded", export["error"]
    return export


def gids(content: bytes) -> list[str]:
    return [orjson.loads(line)["gid"] for line in content.splitlines()]


async def test_a_file_is_had_in_every_way(service: Service) -> None:
    worker, api = service.worker(), service.api()
    await worker.said("worker.started")
    async with caller(await api.address(), service.tenants["1001"].key) as tool:
        tool.follow_redirects = True
        export = await finished(tool, TWICE)
        artifact = export["artifact"]
        url, outputs = artifact["url"], f"/v1/artifacts/{artifact['id']}/outputs"

        whole = await tool.get(url)
        assert hashlib.sha256(whole.content).hexdigest() == artifact["sha256"]
        content = gzip.decompress(whole.content)
        part = await tool.get(url, headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, whole.content[100:200])
        assert (await tool.get(url, headers=LINES)).content == content

        manifest = (await tool.get(f"/v1/exports/{export['id']}/manifest")).json()
        repeated = manifest["totals"]["duplicate_gids"]
        assert repeated == len(gids(content)) - len({*gids(content)}) > 0
        once = await tool.get(f"{url}?dedupe=gid", headers=LINES)
        assert "Content-Length" not in (await tool.head(f"{url}?dedupe=gid", headers=LINES)).headers
        assert gids(once.content) == list(dict.fromkeys(gids(content)))
        assert gzip.decompress((await tool.get(f"{url}?dedupe=gid")).content) == once.content

        assert (await tool.post(outputs, json={"format": "csv"})).status_code == 202

        async def made() -> Json | None:
            found: Json = (await tool.get(f"{outputs}/csv")).json()
            return found if found["state"] != "pending" else None

        (table,) = (await until(made, 60, lambda: worker.output()))["files"]
        rows = [*csv.DictReader(io.StringIO((await tool.get(table["url"])).text))]
        assert [row["gid"] for row in rows] == gids(content)
        listed = (await tool.get(f"/v1/exports/{export['id']}/manifest")).json()["output"]
        assert [each["url"] for each in listed] == [url, table["url"]]
        assert listed[1]["sha256"] == hashlib.sha256((await tool.get(table["url"])).content).hexdigest()


@pytest.mark.parametrize("store_url", ["bucket"], indirect=True)
async def test_a_store_that_is_away_is_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(always(answer(503))) as away:
        with monkeypatch.context() as meanwhile:
            meanwhile.setenv("AWS_ENDPOINT_URL", away.url)
            worker = service.worker(**BRIEFLY)
        export = await service.submit(resource())
        await worker.said("archive.waits")
        assert away.requests
        await service.until_run(export, lambda run: run.wait_reason is WaitReason.BACKOFF)
    worker.kill()
    service.worker()
    (export,) = await service.finished(export, within=60)
    await assert_verified(service, export)
