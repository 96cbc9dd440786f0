"""Download URLs and the files behind them."""

import httpx
import pytest

from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data, fetch, read_lines


@pytest.fixture
def finished(sandbox: SandboxControl, service: AsanaCaller) -> str:
    gid: str = data(service.resource("1001"))["gid"]
    sandbox.advance(600)
    return gid


def test_each_look_at_the_job_mints_a_fresh_url(service: AsanaCaller, finished: str) -> None:
    first, second = service.url(finished), service.url(finished)
    assert first != second
    assert fetch(first).content == fetch(second).content


def test_a_url_expires_and_a_fresh_one_works(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    url = service.url(finished)
    sandbox.advance(3599)
    assert fetch(url).status_code == 200
    sandbox.advance(1)
    expired = fetch(url)
    assert expired.status_code == 403
    assert expired.headers["content-type"] == "application/xml"
    assert "<Code>AccessDenied</Code><Message>Request has expired</Message>" in expired.text
    assert fetch(service.url(finished)).status_code == 200


def test_a_forged_url_is_refused(service: AsanaCaller, finished: str) -> None:
    url = httpx.URL(service.url(finished))
    assert "SignatureDoesNotMatch" in fetch(str(url.copy_set_param("expires", "9999999999.000"))).text
    assert fetch(str(url.copy_with(query=None))).status_code == 403


def test_a_token_has_no_place_at_the_file_host(service: AsanaCaller, finished: str) -> None:
    response = fetch(service.url(finished), Authorization=f"Bearer {SERVICE_TOKEN}")
    assert response.status_code == 400
    assert "Only one auth mechanism allowed" in response.text


def test_a_file_is_gzip_with_its_length_and_etag(service: AsanaCaller, finished: str) -> None:
    response = fetch(service.url(finished))
    assert response.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in response.headers
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == fetch(service.url(finished)).headers["etag"]
    assert len(read_lines(response.content)) == 240


def test_a_download_can_be_resumed_in_ranges(service: AsanaCaller, finished: str) -> None:
    whole = fetch(service.url(finished))
    start = fetch(service.url(finished), Range="bytes=0-999")
    rest = fetch(service.url(finished), Range="bytes=1000-", If_Range=whole.headers["etag"])
    assert (start.status_code, rest.status_code) == (206, 206)
    assert rest.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
    assert start.content + rest.content == whole.content


def test_a_range_of_another_file_is_answered_with_the_whole(service: AsanaCaller, finished: str) -> None:
    response = fetch(service.url(finished), Range="bytes=1000-", If_Range='"another"')
    assert response.status_code == 200
    assert read_lines(response.content)


def test_a_range_behind_the_end_is_refused(service: AsanaCaller, finished: str) -> None:
    assert fetch(service.url(finished), Range="bytes=99999999-").status_code == 416


def test_a_file_thrown_away_is_made_again_with_the_same_bytes(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    before = fetch(service.url(finished))
    sandbox.patch(spool_files=1)
    other = data(service.resource("1002"))["gid"]
    sandbox.advance(600)
    assert fetch(service.url(other)).content != before.content
    after = fetch(service.url(finished))
    assert after.content == before.content
    assert after.headers["etag"] == before.headers["etag"]
