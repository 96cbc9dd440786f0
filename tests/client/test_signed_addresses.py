"""Files that the service has its callers fetch from the bucket itself."""

from pathlib import Path

import pytest

from tests.client.conftest import ClientAt
from tests.client.test_downloads import TWICE, artifact_of, assert_whole
from tests.client.test_downloads import folder as folder
from tests.stores import S3
from tests.system.conftest import Service


@pytest.fixture
def store_url(s3: S3, monkeypatch: pytest.MonkeyPatch) -> str:
    s3.be_known(monkeypatch)
    return s3.place()


async def test_files_come_from_a_bucket(service: Service, client_at: ClientAt, folder: Path) -> None:
    service.worker()
    client = client_at(await service.api(DELIVERY="redirect").address())
    result = await client.run("1001", TWICE, timeout=120)
    path = await result.download(folder / "file")
    assert_whole(path, result.export)
    (folder / "again.part").write_bytes(path.read_bytes()[:999])
    path.unlink()
    assert_whole(await client.download(result.export, folder / "again"), result.export)
    lines = artifact_of(result.export).lines
    assert len([record async for record in result.records()]) == lines
    assert 0 < len([record async for record in result.records(dedupe=True)]) < lines
