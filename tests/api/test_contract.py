"""The service is what its description says: asked so by Schemathesis."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.clients import ClientSpec, create_client
from app.access.models import Scope
from app.access.vault import Vault
from app.events.log import Cause
from app.exports.accept import Rules, Submission
from app.exports.jobs import job_of, start_job
from app.exports.models import Export
from app.exports.requests import GraphRequest
from app.ids import new_worker_id
from app.lanes.lease import register_worker
from app.sandbox.control import SandboxControl
from app.settings import Settings
from tests.api.conftest import Api, served
from tests.api.test_limits import succeeded
from tests.builders import a_schedule, a_tenant, an_endpoint, an_export, another_workspace
from tests.processes import BIN, said

# What exists, so that not every question is answered by 404; what may be ended is none of it. And where a
# request may be refused for what no schema tells: Asana's rules and its word, a key used before, two grants
# for one workspace.
CONFIG = """
[parameters]
"path.export_id" = "{export}"
"path.artifact_id" = "{artifact}"
"path.credential_id" = "{credential}"
"path.gid" = "12345"
"path.client_id" = "{client}"
"path.schedule_id" = "{schedule}"
"path.endpoint_id" = "{endpoint}"
"path.job_gid" = "{job}"

[[operations]]
include-operation-id = "delete_workspace"
parameters = {{ "path.gid" = "54321" }}

[[operations]]
include-operation-id = "delete_artifact_file"
parameters = {{ "path.artifact_id" = "art_01997d3c5b7d7e3f8a1b2c3d4e5f6076" }}

[[operations]]
include-operation-id = "delete_schedule"
parameters = {{ "path.schedule_id" = "{ended}" }}

[[operations]]
include-operation-id = "delete_webhook_endpoint"
parameters = {{ "path.endpoint_id" = "{endpoint_to_end}" }}

# A cursor may be of no event here, and a header that is not sent is sent as `null`.
[[operations]]
include-operation-id = "list_events"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 410, 422]

# There may be twenty of them.
[[operations]]
include-operation-id = "create_webhook_endpoint"
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422, 429]

[[operations]]
include-operation-id = [
    "create_credential", "replace_credential_token", "put_workspace", "create_resource_export",
    "create_graph_export", "plan_export", "post_client", "patch_client", "post_schedule", "put_schedule",
    "preview_cron", "patch_webhook_endpoint", "replay_webhooks", "test_webhook_endpoint",
    "rotate_webhook_secret"
]
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422]

# Where Asana is spoken there is no 405, and what no schema tells is a fault as any other.
[[operations]]
include-operation-id = ["start_resource_export", "start_graph_export", "get_job"]
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 400, 404]
[operations.phases.coverage]
unexpected-methods = []

# There is no guessing a signature.
[[operations]]
include-operation-id = "get_job_content"
[operations.checks]
positive_data_acceptance.expected-statuses = [403]
[operations.phases.coverage]
unexpected-methods = []

# Whether a condition is met is a matter of what is there.
[[operations]]
include-operation-id = ["get_artifact_content", "get_output_content"]
[operations.checks]
positive_data_acceptance.expected-statuses = ["2xx", 304, 404, 412, 416]
"""


@pytest.fixture
def unhurried(settings: Settings, sandbox: SandboxControl) -> Settings:
    """Nobody is told to ask more slowly."""
    return settings.model_copy(
        update={"asana_url": sandbox.api_url, "requests_per_minute": 10**6, "asana_calls_per_minute": 10**6}
    )


async def test_it_is_what_its_description_says(
    unhurried: Settings, sessions: async_sessionmaker[AsyncSession], vault: Vault, tmp_path: Path
) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
        # The workspaces of the examples.
        for gid in ("12345", "54321"):
            await another_workspace(session, tenant, gid)
        queued, done = await an_export(session, tenant), await an_export(session, tenant)
        other, _ = await create_client(
            session, ClientSpec(name="other", scopes=(Scope.EXPORTS_READ,)), Cause("test")
        )
        endpoints = [await an_endpoint(session, vault, tenant.client) for _ in range(2)]
        await register_worker(session, new_worker_id(), "somewhere", 3600)
        schedule = await a_schedule(session, tenant, datetime.now(UTC))
        project = GraphRequest(workspace="12345", parent="123452001")
        started = await start_job(session, tenant.client, Submission(project), Rules())
        job = await job_of(session, started)
        ended = await a_schedule(session, tenant, datetime.now(UTC))
    async with served(unhurried) as (url, services):
        api = Api(url, unhurried, sessions, None, tenant, services)  # type: ignore[arg-type]
        artifact = await succeeded(api, done.id, b"x" * 20)
        (tmp_path / "schemathesis.toml").write_text(
            CONFIG.format(
                export=queued.id,
                artifact=artifact,
                credential=tenant.credential,
                client=other.id,
                schedule=schedule,
                job=job.gid,
                ended=ended,
                endpoint=endpoints[0][0].id,
                endpoint_to_end=endpoints[1][0].id,
            )
        )
        code, output = await said(
            BIN / "schemathesis", "run", f"{url}/openapi.json",
            "--header", f"Authorization: Bearer {tenant.key}",
            "--checks", "all", "--max-examples", "10", "--continue-on-failure", "--seed", "1",
            cwd=tmp_path, within=900,
        )  # fmt: skip
    assert code == 0, output
    async with sessions() as session:
        assert await session.get(Export, queued.id)
