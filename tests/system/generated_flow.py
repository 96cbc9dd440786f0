"""The main flow by a client generated from the API's description, given the URL and a key of a service."""

import gzip
import hashlib
import sys
from http import HTTPStatus

from generated_client import AuthenticatedClient
from generated_client.api.artifacts import get_artifact_content
from generated_client.api.exports import create_resource_export, get_export, list_exports, plan_export
from generated_client.models import (
    ExportOut,
    ExportRequestParameter,
    ProblemOut,
    ResourceExportCreate,
    ResourceType,
    Status,
)
from httpx import Timeout

url, key = sys.argv[1:]
client = AuthenticatedClient(url, key, timeout=Timeout(60), httpx_args={"trust_env": False})
body = ResourceExportCreate("1001", [ExportRequestParameter(ResourceType.TASK)])

planned = plan_export.sync_detailed(client=client, body=body)
assert planned.status_code is HTTPStatus.OK

sent, twin = [
    create_resource_export.sync_detailed(client=client, body=body, idempotency_key="generated")
    for _ in range(2)
]
assert (sent.status_code, twin.headers["Idempotency-Replayed"]) == (HTTPStatus.ACCEPTED, "true")
assert isinstance(sent.parsed, ExportOut)
assert isinstance(twin.parsed, ExportOut)
assert sent.parsed.id == twin.parsed.id

done = get_export.sync(sent.parsed.id, client=client, prefer="wait=50")
assert isinstance(done, ExportOut)
assert done.status is Status.SUCCEEDED
assert done.artifact

file = get_artifact_content.sync_detailed(done.artifact.id, client=client)
assert hashlib.sha256(file.content).hexdigest() == done.artifact.sha256
assert len(gzip.decompress(file.content).splitlines()) == done.artifact.lines

unknown = get_export.sync("exp_unknown", client=client)
assert isinstance(unknown, ProblemOut)
assert unknown.code == "not-found"

(listed,) = list_exports.sync(client=client, page_size=10).items
assert listed.id == done.id
