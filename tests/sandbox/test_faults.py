"""Things that go wrong on demand."""

import gzip
import zlib
from typing import Any

import httpx
import pytest

from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data, fetch, message, read_lines, receive


@pytest.fixture
def finished(sandbox: SandboxControl, service: AsanaCaller) -> str:
    gid: str = data(service.resource("1001"))["gid"]
    sandbox.advance(600)
    return gid


@pytest.mark.parametrize("status", [401, 402, 403, 429, 451, 500, 502, 503, 504])
def test_a_status_is_answered_once_and_nothing_is_done(
    sandbox: SandboxControl, service: AsanaCaller, status: int
) -> None:
    sandbox.add_fault("resource", "status", status=status)
    response = service.resource("1001")
    assert response.status_code == status
    assert ("phrase" in response.json()["errors"][0]) == (status == 500)
    assert sandbox.jobs() == []
    assert service.resource("1001").status_code == 201


def test_a_rate_limit_says_when_to_come_back(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("me", "status", status=429, retry_after=2.5, message="slow down")
    response = service.http.get("/users/me")
    assert response.headers["retry-after"] == "2.5"
    assert message(response) == "slow down"


def test_a_fault_can_wait_repeat_and_choose_its_workspace(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    sandbox.add_fault("workspace", "status", status=503, times=2, after=1, workspace="1002")
    statuses = [service.http.get("/workspaces/1002").status_code for _ in range(4)]
    assert statuses == [200, 503, 503, 200]
    assert service.http.get("/workspaces/1001").status_code == 200
    assert sandbox.faults() == []


def test_faults_happen_until_they_are_cleared(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("graph", "status", status=502, times=None, workspace="1001")
    assert [service.graph("10012001").status_code for _ in range(3)] == [502, 502, 502]
    assert service.graph("10022001").status_code == 201
    sandbox.clear_faults()
    assert service.graph("10012001").status_code == 201


def test_a_delay_is_a_real_one(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("me", "delay", delay=5)
    with pytest.raises(httpx.ReadTimeout):
        service.http.get("/users/me", timeout=0.2)


def test_a_connection_dropped_before_leaves_nothing_behind(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    sandbox.add_fault("resource", "drop_before")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        service.resource("1001")
    assert sandbox.jobs() == []
    assert service.resource("1001").status_code == 201


def test_a_lost_201_leaves_a_job_behind(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("resource", "drop_after")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        service.resource("1001")
    (orphan,) = sandbox.jobs("1001")
    assert service.resource("1001").status_code == 403
    entry = sandbox.journal(call="resource")[0]
    assert (entry.status, entry.fault, entry.job) == (None, "drop_after", orphan.gid)


def test_after_a_lost_201_a_graph_export_is_found_again(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    sandbox.add_fault("graph", "drop_after")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        service.graph("10012001")
    (orphan,) = sandbox.jobs()
    assert data(service.graph("10012001"))["gid"] == orphan.gid


def test_an_html_page_can_come_instead_of_the_file(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    sandbox.add_fault("file", "wrong_content")
    response = fetch(service.url(finished))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert service.lines(finished)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_a_download_is_cut_and_can_be_resumed(
    sandbox: SandboxControl, service: AsanaCaller, finished: str, fraction: float
) -> None:
    whole = fetch(service.url(finished))
    sandbox.add_fault("file", "truncate", fraction=fraction)
    length, received = receive(service.url(finished))
    assert length == len(whole.content)
    assert len(received) == int(len(whole.content) * fraction)
    rest = fetch(service.url(finished), Range=f"bytes={len(received)}-", If_Range=whole.headers["etag"])
    if fraction < 1:
        assert received + rest.content == whole.content


def test_a_large_download_is_cut_too(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.put_workspace("1001", tasks=20_000)
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(600)
    sandbox.add_fault("file", "truncate", fraction=0.9)
    length, received = receive(service.url(gid))
    assert length > 1_000_000
    assert len(received) == int(length * 0.9)


def test_a_shortened_file_has_a_length_that_fits(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    whole = fetch(service.url(finished)).content
    sandbox.add_fault("file", "truncate_file", fraction=0.5)
    response = fetch(service.url(finished))
    assert int(response.headers["content-length"]) == len(response.content) == len(whole) // 2
    with pytest.raises(EOFError):
        gzip.decompress(response.content)


def test_a_flipped_bit_spoils_the_file(sandbox: SandboxControl, service: AsanaCaller, finished: str) -> None:
    whole = fetch(service.url(finished)).content
    sandbox.add_fault("file", "bitflip", fraction=0.5)
    flipped = fetch(service.url(finished)).content
    assert sum((a ^ b).bit_count() for a, b in zip(whole, flipped, strict=True)) == 1
    with pytest.raises((zlib.error, gzip.BadGzipFile, EOFError)):
        gzip.decompress(flipped)
    assert fetch(service.url(finished)).content == whole


def test_a_sound_gzip_file_can_hold_something_else(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    sandbox.add_fault("file", "not_json_lines")
    packed = fetch(service.url(finished)).content
    assert gzip.decompress(packed).startswith(b"gid,name")
    with pytest.raises(ValueError, match="unexpected character"):
        read_lines(packed)


def test_a_url_can_be_born_expired_or_expire_at_the_door(
    sandbox: SandboxControl, service: AsanaCaller, finished: str
) -> None:
    sandbox.add_fault("job", "expire_url")
    assert fetch(service.url(finished)).status_code == 403
    url = service.url(finished)
    sandbox.add_fault("file", "expire_url")
    assert "Request has expired" in fetch(url).text
    assert fetch(url).status_code == 200


def test_a_job_can_be_made_to_fail_when_its_time_comes(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("resource", "job_fails")
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(30)
    assert data(service.job(gid))["status"] == "in_progress"
    sandbox.advance(600)
    assert data(service.job(gid))["status"] == "failed"


def test_a_job_can_be_made_to_fail_while_it_is_polled(sandbox: SandboxControl, service: AsanaCaller) -> None:
    gid = data(service.resource("1001"))["gid"]
    sandbox.add_fault("job", "job_fails", after=1)
    assert [data(service.job(gid))["status"] for _ in range(3)] == ["not_started", "failed", "failed"]
    assert service.resource("1001").status_code == 201


@pytest.mark.parametrize("call", ["resource", "job"])
def test_a_job_can_be_made_to_run_for_ever(sandbox: SandboxControl, service: AsanaCaller, call: str) -> None:
    sandbox.add_fault(call, "job_never_ends")
    gid = data(service.resource("1001"))["gid"]
    service.job(gid)
    sandbox.advance(365 * 86400)
    assert data(service.job(gid))["status"] == "in_progress"
    assert service.resource("1001").status_code == 403
    assert sandbox.jobs()[0].ends_at is None
    sandbox.end_job(gid)
    assert service.lines(gid)


def test_a_job_can_be_lost_for_good_or_for_once(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("resource", "job_lost")
    lost = data(service.resource("1001"))["gid"]
    assert [service.job(lost).status_code for _ in range(2)] == [404, 404]
    gid = data(service.resource("1002"))["gid"]
    sandbox.add_fault("job", "job_lost")
    assert [service.job(gid).status_code for _ in range(2)] == [404, 200]


@pytest.mark.parametrize(
    "fault",
    [
        {"call": "job", "kind": "bitflip"},
        {"call": "file", "kind": "job_fails"},
        {"call": "graph", "kind": "explode"},
        {"call": "graph", "kind": "status", "times": 0},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(sandbox: SandboxControl, fault: dict[str, Any]) -> None:
    response = httpx.post(f"{sandbox.base_url}/_sandbox/faults", json=fault, trust_env=False)
    assert response.status_code == 422
    assert sandbox.faults() == []
