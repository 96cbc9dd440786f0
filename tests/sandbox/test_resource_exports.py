"""POST /exports/resource."""

from typing import Any

import pytest

from app.sandbox.control import SandboxControl

from .calls import TASKS, AsanaCaller, data, message


def test_a_started_export_is_a_job_with_an_empty_result(service: AsanaCaller) -> None:
    response = service.resource("1001")
    job = data(response)
    assert response.status_code == 201
    assert response.headers["location"] == f"/api/1.0/jobs/{job['gid']}"
    assert response.headers["content-type"] == "application/json; charset=UTF-8"
    assert response.headers["x-asana-api-version"] == "1.1"
    assert job["resource_type"] == "job"
    assert job["resource_subtype"] == "export_request"
    assert job["status"] == "not_started"
    result = job["new_resource_export"]
    assert result["gid"] != job["gid"]
    assert result["resource_type"] == "export_request"
    assert result["created_at"] == "2026-06-01T00:00:00.000Z"
    assert result["completed_at"] is None
    assert result["download_url"] is None


def test_a_second_export_of_a_workspace_is_refused_whoever_asks(
    sandbox: SandboxControl, service: AsanaCaller
) -> None:
    sandbox.add_token("another", "other service")
    other = AsanaCaller(sandbox.api_url, "another")
    with other.http:
        data(service.resource("1001"))
        assert service.resource("1001").status_code == 403
        assert other.resource("1001").status_code == 403
        assert other.resource("1002").status_code == 201


def test_a_workspace_is_free_again_when_its_job_ends(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(start_seconds=[0, 0], run_seconds=[100, 100])
    service.resource("1001")
    sandbox.advance(99)
    assert service.resource("1001").status_code == 403
    sandbox.advance(1)
    assert service.resource("1001").status_code == 201


def test_the_message_of_a_busy_workspace_does_not_tell_it_from_missing_access(
    sandbox: SandboxControl, service: AsanaCaller, user: AsanaCaller
) -> None:
    service.resource("1001")
    assert message(service.resource("1001")) == message(user.resource("1002")) == "workspace: Forbidden"
    sandbox.patch(busy_message="workspace: Export in progress")
    assert message(service.resource("1001")) == "workspace: Export in progress"


def test_an_outsider_keeps_the_slot_until_released(sandbox: SandboxControl, service: AsanaCaller) -> None:
    assert sandbox.hold_slot("1001").held
    sandbox.advance(86400)
    assert service.resource("1001").status_code == 403
    sandbox.release_slot("1001")
    assert service.resource("1001").status_code == 201


def test_an_outsider_keeps_the_slot_for_so_long(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.hold_slot("1001", seconds=60)
    assert service.resource("1001").status_code == 403
    sandbox.advance(60)
    assert service.resource("1001").status_code == 201


def test_only_service_accounts_may_start_one(user: AsanaCaller) -> None:
    assert user.resource("1001").status_code == 403


def test_a_token_without_access_to_the_workspace_is_refused(sandbox: SandboxControl) -> None:
    sandbox.add_token("narrow", "narrow", workspaces=["1002"])
    narrow = AsanaCaller(sandbox.api_url, "narrow")
    with narrow.http:
        assert message(narrow.resource("1001")) == "workspace: Forbidden"
        assert narrow.resource("1002").status_code == 201


def test_a_sixth_job_of_a_token_is_one_too_many(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.put_workspace("1006")
    assert {service.resource(f"100{n}").status_code for n in range(1, 6)} == {201}
    response = service.resource("1006")
    assert response.status_code == 429
    assert response.headers["retry-after"] == "30"
    sandbox.patch(concurrent_jobs=None)
    assert service.resource("1006").status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "workspace: Missing input"),
        ({"data": {}}, 400, "workspace: Missing input"),
        ({"data": {"workspace": "abc"}}, 400, "workspace: Not a Long: abc"),
        ({"data": {"workspace": "999"}}, 404, "workspace: Unknown object: 999"),
        ({"data": {"workspace": "1001"}}, 400, "export_request_parameters: Missing input"),
        (
            {"data": {"workspace": "1001", "export_request_parameters": {}}},
            400,
            "export_request_parameters: Not an Array",
        ),
    ],
)
def test_a_wrong_body_is_refused_in_asanas_words(
    service: AsanaCaller, body: dict[str, Any], status: int, text: str
) -> None:
    response = service.http.post("/exports/resource", json=body)
    assert (response.status_code, message(response)) == (status, text)


def test_a_body_that_is_no_json_is_refused(service: AsanaCaller) -> None:
    response = service.http.post("/exports/resource", content=b'{"data":')
    assert response.status_code == 400
    assert message(response) == "Could not parse request data, invalid JSON"


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"type": "task"},
        {"resource_type": "project"},
        {"resource_type": "team", "filters": {"created_by.any": ["10015001"]}},
        {"resource_type": "message", "filters": {"assignee.any": ["10015001"]}},
        {"resource_type": "task", "filters": {"project.any": ["10012001"]}},
        {"resource_type": "task", "filters": {"assignee.any": "10015001"}},
        {"resource_type": "task", "filters": {"assignee.any": ["me"]}},
        {"resource_type": "task", "filters": {"modified_at.after": "yesterday"}},
        {"resource_type": "task", "fields": "name"},
        "task",
    ],
)
def test_a_wrong_item_is_refused_and_starts_nothing(
    sandbox: SandboxControl, service: AsanaCaller, item: dict[str, Any]
) -> None:
    assert service.resource("1001", TASKS, item).status_code == 400
    assert sandbox.jobs() == []


def test_unsupported_filters_can_be_let_through(sandbox: SandboxControl, service: AsanaCaller) -> None:
    sandbox.patch(strict_filters=False)
    team = {"resource_type": "team", "filters": {"created_by.any": ["1"]}}
    assert service.resource("1001", team).status_code == 201


def test_options_in_the_body_choose_the_fields(service: AsanaCaller) -> None:
    body = {
        "data": {"workspace": "1001", "export_request_parameters": [TASKS]},
        "options": {"fields": ["status"], "pretty": True},
    }
    response = service.http.post("/exports/resource", json=body)
    assert set(data(response)) == {"gid", "status"}
    assert response.text.startswith('{\n  "data"')
