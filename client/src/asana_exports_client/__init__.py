"""The Python client of Asana exports: ask for exports, wait for them, have their data."""

from importlib.metadata import version

from asana_exports_client import models, problems
from asana_exports_client._async.client import AsyncClient
from asana_exports_client._async.result import Result as AsyncResult
from asana_exports_client._requests import Message, Task, Team
from asana_exports_client._sync.client import Client
from asana_exports_client._sync.result import Result
from asana_exports_client.errors import (
    AsanaExportsError,
    Damaged,
    ExportCanceled,
    ExportFailed,
    MissingExtra,
    NotFinished,
    NotGenuine,
    ProblemError,
    UnexpectedAnswer,
    Unreachable,
)
from asana_exports_client.models import Export, Filters
from asana_exports_client.receipts import verify_receipt
from asana_exports_client.webhooks import WebhookEvent, verify_webhook

__version__ = version("asana-exports-client")

__all__ = [
    "AsanaExportsError",
    "AsyncClient",
    "AsyncResult",
    "Client",
    "Damaged",
    "Export",
    "ExportCanceled",
    "ExportFailed",
    "Filters",
    "Message",
    "MissingExtra",
    "NotFinished",
    "NotGenuine",
    "ProblemError",
    "Result",
    "Task",
    "Team",
    "UnexpectedAnswer",
    "Unreachable",
    "WebhookEvent",
    "models",
    "problems",
    "verify_receipt",
    "verify_webhook",
]
