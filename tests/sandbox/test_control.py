"""The control panel and the journal."""

import httpx
import pytest

from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data


def test_settings_change_as_a_whole_or_not_at_all(sandbox: SandboxControl) -> None:
    assert sandbox.patch(run_seconds=[1, 2], url_lifetime=60).url_lifetime == 60
    for wrong in ({"run_seconds": [2, 1]}, {"no_such_setting": 1}, {"time_scale": -1}):
        with pytest.raises(httpx.HTTPStatusError, match="422"):
            sandbox.patch(**wrong)
    assert sandbox.settings().run_seconds == (1, 2)


def test_the_clock_stands_still_until_it_is_moved(sandbox: SandboxControl) -> None:
    start = sandbox.clock().now
    assert start.isoformat() == "2026-06-01T00:00:00+00:00"
    assert (sandbox.advance(90).now - start).total_seconds() == 90


def test_the_clock_can_run_faster_while_running(sandbox: SandboxControl) -> None:
    before = sandbox.clock().now
    sandbox.patch(time_scale=1_000_000)
    sandbox.patch(time_scale=0)
    after = sandbox.clock().now
    assert (after - before).total_seconds() > 100
    assert sandbox.clock().now == after


def test_the_journal_knows_who_asked_what_but_no_token(sandbox: SandboxControl, service: AsanaCaller) -> None:
    gid = data(service.graph("10012001"))["gid"]
    service.job(gid)
    graph, job = sandbox.journal()
    assert (graph.method, graph.path, graph.call, graph.status) == (
        "POST",
        "/api/1.0/exports/graph",
        "graph",
        201,
    )
    assert (graph.token, graph.workspace, graph.parent, graph.job) == ("service", "1001", "10012001", gid)
    assert (job.call, job.workspace, job.job, job.status) == ("job", "1001", gid, 200)
    assert graph.virtual_time.isoformat() == "2026-06-01T00:00:00+00:00"
    shown = httpx.get(f"{sandbox.base_url}/_sandbox/journal", trust_env=False).text
    assert SERVICE_TOKEN not in shown
    assert SERVICE_TOKEN not in httpx.get(f"{sandbox.base_url}/_sandbox/tokens", trust_env=False).text


def test_the_journal_can_be_read_in_part(sandbox: SandboxControl, service: AsanaCaller) -> None:
    for workspace in ("1001", "1002", "1001"):
        service.resource(workspace)
    assert [entry.number for entry in sandbox.journal(after=1)] == [2, 3]
    assert [entry.status for entry in sandbox.journal(workspace="1001")] == [201, 403]
    assert sandbox.journal(call="job") == []


def test_stats_show_how_many_jobs_a_workspace_had_at_once(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    service.resource("1001")
    service.resource("1001")
    service.graph("10012001")
    sandbox.advance(600)
    service.resource("1001")
    stats = sandbox.stats()
    lane = stats.workspaces["1001"]
    assert (lane.jobs, lane.in_progress) == (3, 1)
    assert (lane.max_in_progress, lane.max_resource_in_progress) == (2, 1)
    assert lane.statuses == {"201": 3, "403": 1}
    assert lane.calls == {"resource": 3, "graph": 1}
    assert stats.requests == 4


def test_more_than_one_export_at_once_is_seen_when_it_is_allowed(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    sandbox.patch(resource_exports_per_workspace=2)
    assert [service.resource("1001").status_code for _ in range(3)] == [201, 201, 403]
    assert sandbox.stats().workspaces["1001"].max_resource_in_progress == 2


def test_dropped_connections_are_counted(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.add_fault("me", "drop_before")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        service.http.get("/users/me")
    assert sandbox.stats().statuses == {"dropped": 1}


def test_a_job_can_be_ended_by_hand(sandbox: SandboxControl, service: AsanaCaller) -> None:
    gid = data(service.resource("1001"))["gid"]
    assert sandbox.end_job(gid, "failed").status == "failed"
    assert data(service.job(gid))["status"] == "failed"
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        sandbox.end_job(gid)


def test_workspaces_can_be_added_and_are_checked(sandbox: SandboxControl) -> None:
    assert sandbox.put_workspace("77", tasks=5).tasks == 5
    assert sandbox.put_workspace("77", messages=1).tasks == 5
    assert "77" in [workspace.gid for workspace in sandbox.workspaces()]
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        sandbox.put_workspace("77", tasks=-1)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        sandbox.hold_slot("78")


def test_an_unknown_token_cannot_be_revoked(sandbox: SandboxControl) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        sandbox.revoke_token("nobody")
    assert {token.name: token.kind for token in sandbox.tokens()} == {
        "service": "service_account",
        "user": "user",
    }


def test_a_reset_forgets_everything(sandbox: SandboxControl, service: AsanaCaller) -> None:
    service.resource("1001")
    sandbox.patch(seed=99)
    sandbox.hold_slot("1002")
    sandbox.add_fault("me", "drop_before")
    sandbox.revoke_token("service")
    sandbox.reset()
    assert sandbox.settings().seed == 7
    assert (sandbox.jobs(), sandbox.faults(), sandbox.journal()) == ([], [], [])
    assert service.resource("1002").status_code == 201


def test_the_panel_is_described_under_its_own_tag(sandbox: SandboxControl) -> None:
    described = httpx.get(f"{sandbox.base_url}/openapi.json", trust_env=False).json()
    tags = {
        path: {tag for call in calls.values() for tag in call["tags"]}
        for path, calls in described["paths"].items()
    }
    assert tags["/_sandbox/faults"] == {"Control"}
    assert tags["/api/1.0/exports/graph"] == {"Asana"}
