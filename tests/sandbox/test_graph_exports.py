"""POST /exports/graph."""

import pytest

from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data, fetch, message


@pytest.mark.parametrize("parent", ["10011001", "10012001", "10013001", "10014001"])
def test_teams_projects_portfolios_and_goals_can_be_exported(service: AsanaCaller, parent: str) -> None:
    response = service.graph(parent)
    job = data(response)
    assert response.status_code == 201
    assert job["resource_subtype"] == "graph_export_request"
    assert job["new_graph_export"]["resource_type"] == "graph_export"
    assert job["new_graph_export"]["download_url"] is None


@pytest.mark.parametrize(
    ("parent", "status", "text"),
    [
        (None, 400, "parent: Missing input"),
        ("abc", 400, "parent: Not a Long: abc"),
        ("99912001", 404, "parent: Unknown object: 99912001"),
        ("10012099", 404, "parent: Unknown object: 10012099"),
        ("1001", 400, "parent: Not a recognized ID: 1001"),
        ("10017000000001", 400, "parent: Not a recognized ID: 10017000000001"),
    ],
)
def test_what_is_no_parent_is_refused(
    service: AsanaCaller, parent: str | None, status: int, text: str
) -> None:
    response = service.http.post("/exports/graph", json={"data": {"parent": parent}})
    assert (response.status_code, message(response)) == (status, text)


def test_ordinary_users_may_start_one(user: AsanaCaller) -> None:
    assert user.graph("10012001").status_code == 201


def test_a_repeated_request_of_a_user_is_the_same_job_while_in_flight(
    sandbox: SandboxControl, service: AsanaCaller, user: AsanaCaller
) -> None:
    first = data(service.graph("10012001"))["gid"]
    assert data(user.graph("10012001"))["gid"] != first
    sandbox.advance(30)
    again = data(service.graph("10012001"))
    assert (again["gid"], again["status"]) == (first, "in_progress")
    sandbox.advance(3600)
    assert data(service.graph("10012001"))["gid"] != first


def test_graph_exports_do_not_take_the_slot_of_the_workspace(service: AsanaCaller) -> None:
    assert [service.graph(f"1001200{n}").status_code for n in (1, 2)] == [201, 201]
    assert service.resource("1001").status_code == 201


def test_above_a_thousand_tasks_the_result_is_cached_for_four_hours(
    sandbox: SandboxControl, service: AsanaCaller, user: AsanaCaller
) -> None:
    sandbox.put_workspace("1001", parents={"10012001": 1001})
    first = data(service.graph("10012001"))
    sandbox.advance(600)
    file = fetch(service.url(first["gid"]))

    cached = data(service.graph("10012001"))
    assert cached["status"] == "succeeded"
    assert cached["gid"] != first["gid"]
    assert cached["new_graph_export"]["gid"] == first["new_graph_export"]["gid"]
    assert cached["new_graph_export"]["created_at"] == first["new_graph_export"]["created_at"]
    assert fetch(service.url(cached["gid"])).headers["etag"] == file.headers["etag"]
    assert data(user.graph("10012001"))["status"] == "not_started"

    sandbox.advance(4 * 3600)
    fresh = data(service.graph("10012001"))
    assert fresh["status"] == "not_started"
    assert fresh["new_graph_export"]["gid"] != first["new_graph_export"]["gid"]


def test_a_cached_result_can_come_with_its_old_job(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(cached_graph_job="same", graph_cache_above=10)
    first = data(service.graph("10012001"))
    sandbox.advance(600)
    assert data(service.graph("10012001"))["gid"] == first["gid"]


def test_up_to_a_thousand_tasks_nothing_is_cached(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.put_workspace("1001", parents={"10012001": 1000})
    first = data(service.graph("10012001"))
    sandbox.advance(600)
    fresh = data(service.graph("10012001"))
    assert fresh["new_graph_export"]["gid"] != first["new_graph_export"]["gid"]


def test_a_sixth_job_is_one_too_many_but_a_repeated_request_is_not(service: AsanaCaller) -> None:
    for project in range(1, 6):
        service.graph(f"1001200{project}")
    assert service.graph("10012006").status_code == 429
    assert service.graph("10012001").status_code == 201


def test_a_double_slash_in_the_path_is_tolerated(sandbox: SandboxControl) -> None:
    caller = AsanaCaller(f"{sandbox.base_url}/api/1.0//", SERVICE_TOKEN)
    with caller.http:
        response = caller.http.post(
            f"{sandbox.base_url}/api/1.0//exports//graph", json={"data": {"parent": "10012001"}}
        )
    assert response.status_code == 201


@pytest.mark.parametrize(
    ("path", "gid", "place"),
    [
        ("projects", "10012001", "workspace"),
        ("portfolios", "10013001", "workspace"),
        ("teams", "10011001", "organization"),
        ("goals", "10014001", "workspace"),
    ],
)
def test_a_parent_says_where_it_is(service: AsanaCaller, path: str, gid: str, place: str) -> None:
    shown = data(service.http.get(f"/{path}/{gid}", params={"opt_fields": "workspace,organization"}))
    assert shown[place]["gid"] == "1001"
    others = {"projects", "portfolios", "teams", "goals"} - {path}
    assert {service.http.get(f"/{other}/{gid}").status_code for other in others} == {404}
