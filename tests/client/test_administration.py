"""What administrators and tools do besides exports: each call does at the service what it is named for."""

from datetime import UTC, datetime

import pytest

from asana_exports_client import AsyncClient, problems
from asana_exports_client.models import (
    CatchUp,
    ClientCreate,
    ClientPatch,
    CredentialCreate,
    GrantSpec,
    Kind,
    LaneState,
    Priority,
    PublicType,
    ResourceType,
    ScheduleCreate,
    ScheduledParameter,
    ScheduledResourceExport,
    SchedulePut,
    Scope,
    TokenReplace,
    WebhookEndpointCreate,
    WebhookEndpointPatch,
    WorkspacePut,
)
from tests.builders import SERVICE_TOKEN
from tests.client.conftest import NewClient
from tests.client.test_downloads import names

TASKS = ScheduledResourceExport(
    workspace="1001", export_request_parameters=[ScheduledParameter(resource_type=ResourceType.TASK)]
)


async def test_lanes_are_paused_drained_and_resumed(client: AsyncClient) -> None:
    assert (await client.lanes.pause("1001", "maintenance")).state == LaneState.PAUSED
    waiting = await client.export_resource("1001")
    assert (waiting.wait_reason, (await client.lanes.get("1001")).queued) == ("lane_paused", 1)
    assert (await client.lanes.resume("1001")).state == LaneState.OPEN
    assert (await client.wait(waiting, timeout=120)).status == "succeeded"
    assert (await client.lanes.drain("1001", kind="graph")).state == LaneState.DRAINING
    with pytest.raises(problems.LaneDraining):
        await client.export_resource("1001", "team")
    assert (await client.lanes.resume("1001")).state == LaneState.OPEN


async def test_schedules(client: AsyncClient) -> None:
    made = await client.schedules.create(
        ScheduleCreate(name="nightly", cron="0 3 * * *", timezone="Europe/Berlin", export=TASKS)
    )
    assert [each.id for each in await client.schedules.list()] == [made.id]
    assert len(await client.schedules.preview(made.id, 3)) == 3
    slots = await client.schedules.preview_cron("0 3 * * *", "Europe/Berlin", 2)
    assert [slot.local.hour for slot in slots] == [3, 3]
    put = SchedulePut(name="nightly", cron="0 4 * * *", export=TASKS, catch_up=CatchUp.LATEST)
    assert (await client.schedules.replace(made.id, put)).cron == "0 4 * * *"
    assert (await client.schedules.pause(made.id, "holidays")).paused_at
    assert (await client.schedules.resume(made.id)).paused_at is None
    await client.schedules.delete(made.id)
    with pytest.raises(problems.NotFound):
        await client.schedules.get(made.id)


async def test_webhook_endpoints(client: AsyncClient) -> None:
    made = await client.webhooks.create(
        WebhookEndpointCreate(url="https://hooks.example.com/x", types=[PublicType.EXPORT_SUCCEEDED])
    )
    assert made.secret.startswith("whsec_")
    assert (await client.webhooks.rotate_secret(made.id)).secret != made.secret
    changed = await client.webhooks.change(made.id, WebhookEndpointPatch(disabled=True))
    assert (changed.disabled, changed.types) == (True, [PublicType.EXPORT_SUCCEEDED])
    with pytest.raises(problems.EndpointDisabled):
        await client.webhooks.test(made.id)
    assert not (await client.webhooks.change(made.id, WebhookEndpointPatch(disabled=False))).disabled
    sent = await client.webhooks.test(made.id)
    assert [each.id async for each in client.webhooks.deliveries(made.id)] == [sent.id]
    replayed = await client.webhooks.replay(made.id, since=datetime.now(UTC))
    assert replayed.deliveries == 0
    assert [each.id for each in await client.webhooks.list()] == [made.id]
    assert (await client.webhooks.get(made.id)).url == made.url
    await client.webhooks.delete(made.id)
    assert await client.webhooks.list() == []


async def test_clients_and_what_their_keys_open(api: str, client: AsyncClient, new_client: NewClient) -> None:
    made = await client.clients.create(
        ClientCreate(
            name="bi",
            scopes=[Scope.EXPORTS_READ],
            grants=[GrantSpec(workspace="1001", kinds=[Kind.RESOURCE], highest_priority=Priority.NORMAL)],
            max_queued=5,
        )
    )
    bi = new_client(api, made.key)
    assert (await bi.lanes.get("1001")).workspace == "1001"
    with pytest.raises(problems.ScopeMissing):
        await bi.export_resource("1001")
    with pytest.raises(problems.NotFound):
        await bi.lanes.get("1002")
    changed = await client.clients.change(made.id, ClientPatch(max_queued=None, note="more"))
    assert (changed.max_queued, changed.name) == (None, "bi")
    other = await client.clients.replace_key(made.id)
    with pytest.raises(problems.Unauthenticated):
        await bi.lanes.get("1001")
    assert (await new_client(api, other.key).lanes.get("1001")).queued == 0
    assert (await client.clients.revoke(made.id)).revoked_at
    assert made.id in [each.id for each in await client.clients.list()]
    assert (await client.clients.get(made.id)).last_used_at


async def test_credentials_and_workspaces(client: AsyncClient) -> None:
    stored = await client.credentials.create(CredentialCreate(name="another one", token=SERVICE_TOKEN))
    await client.credentials.replace(stored.id, TokenReplace(token=SERVICE_TOKEN, note="rotated"))
    assert (await client.credentials.get(stored.id)).state == "valid"
    assert stored.id in [each.id for each in await client.credentials.list()]
    with pytest.raises(problems.CredentialRefused):
        await client.credentials.create(CredentialCreate(name="wrong", token="unknown-token"))
    put = await client.workspaces.put("1001", WorkspacePut(credential=stored.id, retention_days=7))
    assert (put.credential, put.retention_days) == (stored.id, 7)
    assert (await client.workspaces.get("1001")).credential == stored.id
    assert len(await client.workspaces.list()) == 5
    await client.workspaces.delete("1005", "closed")
    assert len(await client.workspaces.list()) == 4
    assert await client.attention.list(acknowledged=False) == []
    with pytest.raises(problems.NotFound):
        await client.attention.acknowledge("att_0123456789abcdef")


async def test_files_are_held_converted_and_ended(
    client: AsyncClient, tmp_path_factory: pytest.TempPathFactory
) -> None:
    artifact = (await client.run("1001", "team", timeout=120)).export.artifact
    assert artifact
    await client.artifacts.hold(artifact, "audit")
    with pytest.raises(problems.LegalHold):
        await client.artifacts.delete(artifact)
    await client.artifacts.release(artifact.id)
    with pytest.raises(TimeoutError, match="no csv of it within 0 seconds"):
        await client.artifacts.convert(artifact, "csv", timeout=0)
    (table,) = (await client.artifacts.convert(artifact, "csv")).files
    assert table.rows == artifact.lines
    assert [each.format for each in await client.artifacts.outputs(artifact)] == ["csv"]
    again = await client.artifacts.refetch(artifact)
    assert (await client.artifacts.refetched(artifact)).requested_at == again.requested_at
    await client.artifacts.delete(artifact, "no longer needed")
    folder = tmp_path_factory.mktemp("downloads")
    with pytest.raises(problems.ArtifactExpired):
        await client.download(artifact, folder / "file")
    assert names(folder) == []
