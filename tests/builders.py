"""Real rows for tests, each made by the domain's own functions where there is one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.clients import ClientSpec, GrantSpec, create_client
from app.access.models import Client, Credential, CredentialState, Priority, Scope, Workspace
from app.access.vault import Vault
from app.artifacts.models import MEDIA_TYPE, Artifact, ArtifactState
from app.events.log import Cause, EventType
from app.exports.accept import Rules, Submission, accept
from app.exports.keeping import change_artifact
from app.exports.models import Export
from app.exports.requests import ResourceRequest, ResourceType
from app.exports.runs import HeldArchive
from app.exports.schedules import ScheduleSpec, create_schedule
from app.ids import ScheduleId, new_artifact_id, new_credential_id
from app.webhooks.endpoints import EndpointSpec, create_endpoint
from app.webhooks.models import WebhookEndpoint
from app.webhooks.targets import TargetPolicy

SERVICE_TOKEN = "sandbox-service-token"


@dataclass(frozen=True)
class Tenant:
    """A client with every right, and a workspace with a credential."""

    client: Client
    key: str = field(repr=False)
    workspace: str
    credential: str


_seconds = count()


def unlike_others(resource_type: str) -> dict[str, Any]:
    """A filter that keeps everything, but makes a request for tasks or messages one of its kind: equal ones
    share a run."""
    if resource_type == ResourceType.TEAM:
        return {"fields": ["gid", "resource_type", "name", f"unknown{next(_seconds)}"]}
    moment = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=next(_seconds))
    return {"filters": {"created_at.after": moment.isoformat()}}


async def a_tenant(
    session: AsyncSession, vault: Vault, workspace: str = "1001", token: str = SERVICE_TOKEN
) -> Tenant:
    client, key = await create_client(
        session,
        ClientSpec(
            name=f"client of {workspace}",
            scopes=(Scope.ADMIN,),
            grants=(GrantSpec(highest_priority=Priority.URGENT),),
        ),
        Cause("test"),
    )
    credential = await another_credential(session, vault, token, name=f"credential of {workspace}")
    session.add(Workspace(gid=workspace, name=f"Workspace {workspace}", credential=credential.id))
    await session.flush()
    return Tenant(client, key, workspace, credential.id)


async def another_credential(
    session: AsyncSession, vault: Vault, token: str, name: str = "another"
) -> Credential:
    credential = Credential(
        id=new_credential_id(),
        name=name,
        token=vault.encrypt(SecretStr(token)),
        state=CredentialState.VALID,
        asana_user="1",
        asana_user_name="Service",
    )
    session.add(credential)
    await session.flush()
    return credential


async def another_workspace(session: AsyncSession, tenant: Tenant, workspace: str) -> Tenant:
    session.add(Workspace(gid=workspace, name=f"Workspace {workspace}", credential=tenant.credential))
    await session.flush()
    return Tenant(tenant.client, tenant.key, workspace, tenant.credential)


async def an_export(
    session: AsyncSession,
    tenant: Tenant,
    *,
    resource_type: ResourceType = ResourceType.TASK,
    priority: Priority = Priority.NORMAL,
) -> Export:
    items = [{"resource_type": resource_type} | unlike_others(resource_type)]
    request = ResourceRequest.model_validate(
        {"workspace": tenant.workspace, "export_request_parameters": items}
    )
    return await accept(session, tenant.client, Submission(request, priority=priority), Rules())


async def a_schedule(
    session: AsyncSession, tenant: Tenant, now: datetime, *, export: dict[str, Any] | None = None, **how: Any
) -> ScheduleId:
    """Of all tasks, at each hour, unless told otherwise."""
    asked = {"workspace": tenant.workspace, "export_request_parameters": [{"resource_type": "task"}]}
    given = {"name": f"schedule {next(_seconds)}", "cron": "0 * * * *", "export": asked | (export or {})}
    spec = ScheduleSpec.model_validate(given | how)
    return await create_schedule(session, tenant.client, spec, Rules(), now, Cause("test"))


async def an_endpoint(
    session: AsyncSession, vault: Vault, client: Client, url: str = "https://203.0.113.1/", **spec: Any
) -> tuple[WebhookEndpoint, SecretStr]:
    """Of a receiver on this machine or elsewhere; with the secret it was given."""
    anywhere = TargetPolicy(("public", "127.0.0.0/8", "203.0.113.0/24"), allow_http=True)
    wanted = EndpointSpec(url=url, **spec)
    endpoint = await create_endpoint(session, client, vault, anywhere, wanted, Cause("test"))
    return endpoint, vault.decrypt(endpoint.secret)


def an_artifact(archive: HeldArchive) -> Artifact:
    """What a worker says of a file that it has stored."""
    return Artifact(
        id=new_artifact_id(),
        run=archive.run,
        state=ArtifactState.AVAILABLE,
        key=f"1001/{archive.run}-{archive.fence}.jsonl.gz",
        location="file:///nowhere",
        media_type=MEDIA_TYPE,
        sha256="0" * 64,
        bytes=20,
        uncompressed_bytes=0,
        lines=0,
        by_type={},
        duplicate_gids=0,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )


async def deleted(session: AsyncSession, artifact: Artifact) -> None:
    """Somebody has deleted it."""
    await change_artifact(session, artifact, ArtifactState.DELETED, EventType.ARTIFACT_DELETED, Cause("test"))
