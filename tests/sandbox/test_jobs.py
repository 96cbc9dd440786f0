"""GET /jobs/{gid}, and the other GETs."""

import pytest

from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data, fetch, message


def test_a_job_goes_from_not_started_to_succeeded(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(start_seconds=[10, 10], run_seconds=[100, 100])
    gid = data(service.resource("1001"))["gid"]
    seen = []
    for seconds in (0, 10, 99, 1):
        sandbox.advance(seconds)
        seen.append(data(service.job(gid))["status"])
    assert seen == ["not_started", "in_progress", "in_progress", "succeeded"]
    result = data(service.job(gid))["new_resource_export"]
    assert result["completed_at"] == "2026-06-01T00:01:50.000Z"
    assert result["download_url"].startswith(f"{sandbox.base_url}/files/{gid}?")


def test_durations_follow_from_the_seed(sandbox: SandboxControl, service: AsanaCaller) -> None:
    def durations() -> list[object]:
        sandbox.reset()
        for workspace in ("1001", "1002", "1003"):
            service.resource(workspace)
        return [job.ends_at for job in sandbox.jobs()]

    first = durations()
    assert len(set(first)) == 3
    assert durations() == first


def test_a_workspace_can_have_durations_of_its_own(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(start_seconds=[0, 0])
    sandbox.put_workspace("1001", run_seconds=[5000, 5000])
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(4999)
    assert data(service.job(gid))["status"] == "in_progress"


def test_a_failed_job_gives_no_reason(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(failure_rate=1)
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(600)
    job = data(service.job(gid))
    assert job["status"] == "failed"
    assert job["new_resource_export"]["download_url"] is None
    assert not {"error", "message", "reason"} & set(job)


def test_succeeded_may_come_before_the_url(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(start_seconds=[0, 0], run_seconds=[10, 10], url_seconds=[30, 30])
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(39)
    job = data(service.job(gid))
    assert (job["status"], job["new_resource_export"]["download_url"]) == ("succeeded", None)
    sandbox.advance(1)
    assert service.lines(gid)


def test_a_job_is_there_for_its_creator_only(
    sandbox: SandboxControl, service: AsanaCaller, user: AsanaCaller
) -> None:
    gid = data(service.graph("10012001"))["gid"]
    response = user.job(gid)
    assert (response.status_code, message(response)) == (404, f"job: Unknown object: {gid}")
    sandbox.patch(foreign_job="forbidden")
    assert user.job(gid).status_code == 403
    sandbox.patch(foreign_job="visible")
    assert user.job(gid).status_code == 200


def test_opt_fields_choose_and_the_gid_stays(sandbox: SandboxControl, service: AsanaCaller) -> None:
    gid = data(service.graph("10012001"))["gid"]
    sandbox.advance(600)
    job = data(service.job(gid, opt_fields="status,this.new_graph_export.(download_url|created_at)"))
    assert set(job) == {"gid", "status", "new_graph_export"}
    assert set(job["new_graph_export"]) == {"gid", "download_url", "created_at"}
    bare = data(service.job(gid, opt_fields="new_graph_export"))
    assert set(bare["new_graph_export"]) == {"gid", "resource_type"}


def test_a_bare_job_can_be_without_its_url(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(url_in_bare_job=False)
    gid = data(service.graph("10012001"))["gid"]
    sandbox.advance(600)
    assert "download_url" not in data(service.job(gid))["new_graph_export"]
    assert data(service.job(gid, opt_fields="new_graph_export.download_url"))["new_graph_export"][
        "download_url"
    ]


@pytest.mark.parametrize("value", ["true", "True", "1"])
def test_opt_pretty_is_understood_in_pythons_spelling_too(service: AsanaCaller, value: str) -> None:
    gid = data(service.graph("10012001"))["gid"]
    assert service.job(gid, opt_pretty=value).text.startswith("{\n")
    assert service.job(gid).text.startswith('{"data"')


def test_after_thirty_days_the_file_is_gone(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(url_lifetime=40 * 86400)
    gid = data(service.resource("1001"))["gid"]
    sandbox.advance(600)
    url = service.url(gid)
    sandbox.advance(30 * 86400)
    job = data(service.job(gid))
    assert (job["status"], job["new_resource_export"]["download_url"]) == ("succeeded", None)
    assert fetch(url).status_code == 404
    sandbox.patch(expired_file="job_not_found")
    assert service.job(gid).status_code == 404


def test_an_unknown_job_is_not_found(service: AsanaCaller) -> None:
    assert message(service.job("42")) == "job: Unknown object: 42"


def test_me_and_the_workspace_can_be_read(service: AsanaCaller) -> None:
    me = data(service.http.get("/users/me"))
    assert me["resource_type"] == "user"
    assert [workspace["gid"] for workspace in me["workspaces"]] == ["1001", "1002", "1003", "1004", "1005"]
    workspace = data(service.http.get("/workspaces/1001", params={"opt_fields": "name"}))
    assert workspace == {"gid": "1001", "name": "Sandbox 1001"}
    assert message(service.http.get("/workspaces/999")) == "workspace: Unknown object: 999"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nowhere"), ("GET", "/exports/graph"), ("DELETE", "/jobs/1")]
)
def test_an_unknown_route_is_said_to_be_one(service: AsanaCaller, method: str, path: str) -> None:
    response = service.http.request(method, path)
    assert (response.status_code, message(response)) == (404, "No matching route")


@pytest.mark.parametrize("authorization", [None, "Bearer junk", f"Basic {SERVICE_TOKEN}", "Bearer"])
def test_no_token_and_a_wrong_one_get_the_same_answer(
    sandbox: SandboxControl, authorization: str | None
) -> None:
    caller = AsanaCaller(sandbox.api_url, None)
    with caller.http:
        response = caller.http.get(
            "/users/me", headers={"Authorization": authorization} if authorization else {}
        )
    assert (response.status_code, message(response)) == (401, "Not Authorized")


def test_a_revoked_token_is_refused_and_its_successor_finds_the_same_job(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    gid = data(service.resource("1001"))["gid"]
    sandbox.revoke_token("service")
    assert service.job(gid).status_code == 401
    sandbox.add_token("rotated", "service")
    successor = AsanaCaller(sandbox.api_url, "rotated")
    with successor.http:
        assert successor.job(gid).status_code == 200


def test_requests_above_the_quota_wait_for_the_next_minute(
    sandbox: SandboxControl, user: AsanaCaller
) -> None:
    # Its own token: a request of an earlier test, still on its way, would be counted too.
    sandbox.add_token("counted", "service")
    sandbox.patch(requests_per_minute=3)
    sandbox.advance(15)
    with AsanaCaller(sandbox.api_url, "counted").http as counted:
        statuses = [counted.get("/users/me").status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        refused = counted.get("/users/me")
        assert refused.headers["retry-after"] == "45"
        assert message(refused).startswith("You've made too many requests")
        assert user.http.get("/users/me").status_code == 200
        sandbox.advance(45)
        assert counted.get("/users/me").status_code == 200
