"""What tests of whole exports ask for, and what they expect of it."""

import gzip
import hashlib
from collections import Counter

import httpx
import orjson
from pydantic import SecretStr
from sqlalchemy import select

from app.access.credentials import replace_token
from app.access.vault import open_vault
from app.artifacts.models import Artifact
from app.artifacts.store import open_store
from app.asana.client import AsanaClient
from app.events.log import Cause
from app.exports.models import Export, Status
from app.exports.requests import GraphRequest, ResourceRequest, ResourceType
from app.ids import CredentialId
from app.sandbox.faults import Call
from tests.builders import unlike_others
from tests.system.conftest import Service

TYPES = tuple(ResourceType)
PARENTS = {"team": "10011001", "project": "10012001", "portfolio": "10013001", "goal": "10014001"}


def resource(workspace: str = "1001", *types: ResourceType) -> ResourceRequest:
    items = [{"resource_type": kind} | unlike_others(kind) for kind in types or (ResourceType.TASK,)]
    return ResourceRequest.model_validate({"workspace": workspace, "export_request_parameters": items})


def graph(parent: str = PARENTS["project"]) -> GraphRequest:
    return GraphRequest(workspace="1001", parent=parent)


async def artifact_of(service: Service, export: Export) -> Artifact:
    async with service.sessions() as session:
        return (await session.scalars(select(Artifact).where(Artifact.run == export.run))).one()


async def assert_verified(service: Service, export: Export) -> Artifact:
    """The file is where the artifact says, and holds what it says."""
    assert export.status is Status.SUCCEEDED, export.error
    artifact = await artifact_of(service, export)
    file = await open_store(service.settings.files_url).open(artifact.key)
    stored = b"".join([piece async for piece in file.chunks()])
    lines = [orjson.loads(line) for line in gzip.decompress(stored).splitlines()]
    assert hashlib.sha256(stored).hexdigest() == artifact.sha256
    assert len(stored) == artifact.bytes
    assert Counter(line["resource_type"] for line in lines) == artifact.by_type
    assert len(lines) == artifact.lines > 0
    return artifact


def posts(service: Service, kind: Call = Call.RESOURCE) -> list[int | None]:
    return [entry.status for entry in service.sandbox.journal(call=kind)]


async def replace_its_token(service: Service, token: str) -> None:
    async with httpx.AsyncClient() as http:
        await replace_token(
            service.sessions,
            open_vault(service.settings),
            AsanaClient(http, service.settings.asana_url),
            CredentialId(service.tenants["1001"].credential),
            SecretStr(token),
            Cause("test"),
        )
