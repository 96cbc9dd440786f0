"""What is asked for, as the service wants it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict
from uuid import uuid4

from asana_exports_client.models import (
    Artifact,
    Export,
    ExportRequestParameter,
    Filters,
    Priority,
    ResourceType,
)


class Task(ExportRequestParameter, kw_only=True):
    """Tasks of the workspace: all, or those that `filters` keep."""

    resource_type: ResourceType = ResourceType.TASK


class Team(ExportRequestParameter, kw_only=True):
    """Teams of the workspace; Asana has no filters for them."""

    resource_type: ResourceType = ResourceType.TEAM


class Message(ExportRequestParameter, kw_only=True):
    """Messages of the workspace: all, or those that `filters` keep."""

    resource_type: ResourceType = ResourceType.MESSAGE


Wanted = ExportRequestParameter | ResourceType | str


class Options(TypedDict, total=False):
    """What may be said with each request for an export."""

    priority: Priority | str
    """`urgent`, `high`, `normal` or `low`."""
    max_age: int
    """Seconds that the data may be old: a run that began so recently is shared."""
    deliver_by: datetime | None
    """When it should be there."""
    queue_ttl: int | None
    """Seconds after which it fails if it has not started."""
    labels: Mapping[str, str]
    """To find it by."""
    idempotency_key: str
    """Yours, where the same request may come from several processes; each call has one of its own else."""


def resource_body(
    workspace: str,
    what: Wanted | Sequence[Wanted],
    fields: Sequence[str] | None,
    filters: Filters | Mapping[str, Any] | None,
    options: Options,
) -> dict[str, Any]:
    """The body of a request for a resource export.

    `fields` and `filters` are for all types that are only named. Raises `ValueError` where none is.
    """
    items = [what] if isinstance(what, str | ExportRequestParameter) else what
    common = {"fields": fields, "filters": filters}
    given = {name: value for name, value in common.items() if value is not None}
    if given and all(isinstance(each, ExportRequestParameter) for each in items):
        raise ValueError(f"Give {' and '.join(given)} to each of the things wanted.")
    parameters = [
        each if isinstance(each, ExportRequestParameter) else {"resource_type": each, **given}
        for each in items
    ]
    return {"workspace": workspace, "export_request_parameters": parameters, **said(options)}


def graph_body(workspace: str, parent: str, options: Options) -> dict[str, Any]:
    """The body of a request for a graph export."""
    return {"workspace": workspace, "parent": parent, **said(options)}


def said(options: Options) -> dict[str, Any]:
    """The options that belong to the body."""
    return {name: value for name, value in options.items() if name != "idempotency_key"}


def sent_once(key: str | None = None) -> dict[str, str]:
    """The header by which a request that is sent again makes nothing twice."""
    return {"Idempotency-Key": key or uuid4().hex}


def id_of(thing: Export | Artifact | str) -> str:
    """The id of what may be named by it."""
    return thing if isinstance(thing, str) else thing.id
