"""Whose a file is, and that it is sent whole or not at all."""

import gzip
import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.api.conftest import Api
from tests.api.test_limits import asked, succeeded
from tests.stores import folder_of


async def test_a_file_is_for_its_client_alone(api: Api, caller: httpx.AsyncClient) -> None:
    artifact = await succeeded(api, (await asked(caller)).json()["id"], b"x" * 10)
    address = f"/v1/artifacts/{artifact}/content"
    refused = await (await api.caller()).get(address)
    assert (refused.status_code, refused.json()["code"]) == (404, "not-found")
    assert (await caller.get(address)).content == b"x" * 10


async def test_a_file_that_was_cut_on_the_disk_is_not_sent(api: Api, caller: httpx.AsyncClient) -> None:
    artifact = await succeeded(api, (await asked(caller)).json()["id"], b"x" * 10)
    (file,) = folder_of(api.settings).glob("1001/*")
    file.write_bytes(b"x" * 9)
    refused = await caller.get(f"/v1/artifacts/{artifact}/content")
    assert (refused.status_code, refused.json()["code"]) == (500, "artifact-missing")


LINES = b'{"gid":"1"}\n' * 100_000
FILE = gzip.compress(LINES)


@pytest.fixture
async def address(api: Api, caller: httpx.AsyncClient) -> str:
    """Of the content of a file that is kept."""
    artifact = await succeeded(api, (await asked(caller)).json()["id"], FILE)
    return f"/v1/artifacts/{artifact}/content"


async def test_the_whole_is_described_by_its_headers(caller: httpx.AsyncClient, address: str) -> None:
    whole, head = await caller.get(address), await caller.head(address)
    assert whole.content == FILE
    assert head.content == b""
    for name in ("Date", "X-Request-Id", "RateLimit"):
        del whole.headers[name], head.headers[name]
    assert whole.headers == head.headers
    digest = b64encode(hashlib.sha256(FILE).digest()).decode()
    assert whole.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert whole.headers["Content-Length"] == str(len(FILE))
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert parsedate_to_datetime(whole.headers["Sunset"]) > datetime.now(UTC)


async def test_a_download_that_broke_off_goes_on(caller: httpx.AsyncClient, address: str) -> None:
    first = await caller.get(address, headers={"Range": "bytes=0-99"})
    rest = await caller.get(address, headers={"Range": "bytes=100-", "If-Range": first.headers["ETag"]})
    assert [first.status_code, rest.status_code] == [206, 206]
    assert first.headers["Content-Range"] == f"bytes 0-99/{len(FILE)}"
    assert first.headers["Content-Length"] == "100"
    assert first.content + rest.content == FILE
    other = await caller.get(address, headers={"Range": "bytes=100-", "If-Range": '"of another file"'})
    assert (other.status_code, other.content) == (200, FILE)


async def test_a_range_beyond_the_end_tells_where_that_is(caller: httpx.AsyncClient, address: str) -> None:
    refused = await caller.get(address, headers={"Range": f"bytes={len(FILE)}-"})
    assert (refused.status_code, refused.json()["code"]) == (416, "range-not-satisfiable")
    assert refused.headers["Content-Range"] == f"bytes */{len(FILE)}"
    assert (await caller.head(address, headers={"Range": "bytes=0-9"})).status_code == 200


async def test_conditions_are_heeded(caller: httpx.AsyncClient, address: str) -> None:
    etag = (await caller.head(address)).headers["ETag"]
    known = await caller.get(address, headers={"If-None-Match": etag, "Range": "bytes=0-9"})
    assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", etag)
    assert "Content-Length" not in known.headers
    refused = await caller.get(address, headers={"If-Match": '"another"'})
    assert (refused.status_code, refused.json()["code"]) == (412, "precondition-failed")


async def test_the_lines_are_sent_unpacked_where_they_are_wanted(
    caller: httpx.AsyncClient, address: str
) -> None:
    wanted = {"Accept": "application/x-ndjson", "Range": "bytes=0-9"}
    whole, head = await caller.get(address, headers=wanted), await caller.head(address, headers=wanted)
    assert (whole.status_code, whole.content) == (200, LINES)
    assert whole.headers["Content-Type"] == "application/x-ndjson"
    assert whole.headers["Content-Length"] == head.headers["Content-Length"] == str(len(LINES))
    assert whole.headers["Accept-Ranges"] == "none"
    assert "Accept" in whole.headers["Vary"]
    assert whole.headers["ETag"] != (await caller.head(address)).headers["ETag"]
    assert "Repr-Digest" not in whole.headers
    assert whole.headers["Content-Disposition"].endswith('.jsonl"')
