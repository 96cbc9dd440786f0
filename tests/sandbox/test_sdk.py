"""The official SDK takes the stand-in for Asana."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from app.sandbox import SERVICE_TOKEN
from app.sandbox.control import SandboxControl

from .calls import fetch, read_lines
from .official import OfficialClient, asana

ApiException: Any = asana.rest.ApiException

RESOURCE = {"data": {"workspace": "1001", "export_request_parameters": [{"resource_type": "task"}]}}
GRAPH = {"data": {"parent": "10012001"}}


def test_a_graph_export_runs_from_start_to_file(sandbox: SandboxControl, sdk: OfficialClient) -> None:
    job = sdk.exports.create_graph_export(GRAPH)
    assert job["resource_subtype"] == "graph_export_request"
    sandbox.advance(600)
    opts = {"opt_fields": "status,new_graph_export.download_url", "opt_pretty": True}
    done = sdk.jobs.get_job(job["gid"], opts)
    assert set(done) == {"gid", "status", "new_graph_export"}
    assert read_lines(fetch(done["new_graph_export"]["download_url"]).content)


def test_a_resource_export_runs_from_start_to_file(sandbox: SandboxControl, sdk: OfficialClient) -> None:
    after = datetime(2026, 5, 1, tzinfo=UTC)
    item = {"resource_type": "task", "filters": {"modified_at.after": after}, "fields": ["modified_at"]}
    body = {"data": {"workspace": "1001", "export_request_parameters": [item]}}
    job = sdk.exports.create_resource_export(body)
    sandbox.advance(600)
    done = sdk.jobs.get_job(job["gid"], {})
    lines = read_lines(fetch(done["new_resource_export"]["download_url"]).content)
    assert lines
    assert all(line["modified_at"] > "2026-05" for line in lines)


def test_a_host_with_a_trailing_slash_works(sandbox: SandboxControl) -> None:
    sdk = OfficialClient(f"{sandbox.api_url}/", SERVICE_TOKEN)
    assert sdk.exports.create_graph_export(GRAPH)["resource_type"] == "job"


def test_async_requests_and_full_payloads_have_the_envelope(sdk: OfficialClient) -> None:
    assert sdk.exports.create_graph_export(GRAPH, async_req=True).get()["data"]["resource_type"] == "job"
    assert sdk.exports.create_graph_export(GRAPH, full_payload=True)["data"]["resource_type"] == "job"
    payload, status, headers = sdk.exports.create_graph_export(GRAPH, _return_http_data_only=False)
    assert (status, headers["X-Asana-Api-Version"]) == (201, "1.1")
    assert headers["Location"] == f"/api/1.0/jobs/{payload['data']['gid']}"


def test_a_busy_workspace_is_an_api_exception_with_bytes(sdk: OfficialClient) -> None:
    sdk.exports.create_resource_export(RESOURCE)
    with pytest.raises(ApiException) as caught:
        sdk.exports.create_resource_export(RESOURCE)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")
    assert isinstance(caught.value.body, bytes)
    assert json.loads(caught.value.body)["errors"][0]["message"] == "workspace: Forbidden"


def test_a_refused_post_is_not_repeated(sandbox: SandboxControl, sdk: OfficialClient) -> None:
    sandbox.add_fault("graph", "status", status=429, retry_after=60)
    with pytest.raises(ApiException) as caught:
        sdk.exports.create_graph_export(GRAPH)
    assert caught.value.headers["retry-after"] == "60"
    assert len(sandbox.journal()) == 1


def test_a_refused_get_is_repeated(sandbox: SandboxControl, sdk: OfficialClient) -> None:
    job = sdk.exports.create_graph_export(GRAPH)
    sandbox.add_fault("job", "status", status=503, retry_after=0)
    assert sdk.jobs.get_job(job["gid"], {})["gid"] == job["gid"]
    assert [entry.status for entry in sandbox.journal(call="job")] == [503, 200]


def test_a_lost_201_is_a_protocol_error_after_one_request(
    sandbox: SandboxControl, sdk: OfficialClient
) -> None:
    sandbox.add_fault("resource", "drop_after")
    with pytest.raises(urllib3.exceptions.ProtocolError):
        sdk.exports.create_resource_export(RESOURCE)
    assert len(sandbox.jobs()) == len(sandbox.journal()) == 1


def test_a_list_of_fields_written_the_python_way_is_answered(sdk: OfficialClient) -> None:
    job = sdk.exports.create_graph_export(GRAPH)
    shown = sdk.jobs.get_job(job["gid"], {"opt_fields": ["status", "x"]})
    assert shown == {"gid": job["gid"], "status": "not_started"}


def test_me_and_a_workspace_can_be_read(sdk: OfficialClient) -> None:
    assert sdk.users.get_user("me", {})["name"] == "service"
    assert sdk.workspaces.get_workspace("1001", {})["is_organization"] is True
