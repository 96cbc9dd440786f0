"""Request bodies of the export endpoints, checked the way Asana does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.opt_fields import Tree, parse
from app.sandbox import filters
from app.sandbox.refusals import Refused, missing, unknown
from app.sandbox.settings import SandboxSettings, WorkspaceSpec
from app.sandbox.world import Parent, find_parent, is_no_parent

RESOURCE_TYPES = ("task", "team", "message")


@dataclass(frozen=True)
class Item:
    """One entry of `export_request_parameters`."""

    resource_type: str
    filters: dict[str, Any] = field(default_factory=dict)
    fields: Tree | None = None


def read_body(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The `data` and the `options` of a request body."""
    try:
        body = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        raise Refused(400, "Could not parse request data, invalid JSON") from None
    if not isinstance(body, dict):
        raise Refused(400, "Could not parse request data, invalid JSON")
    data, options = body.get("data", {}), body.get("options", {})
    if not isinstance(data, dict):
        raise Refused(400, "data: Not an Object")
    return data, options if isinstance(options, dict) else {}


def read_gid(data: dict[str, Any], name: str) -> str:
    """A gid out of a body; Asana takes a number for the string of its digits."""
    value = data.get(name)
    if value is None or value == "":
        raise missing(name)
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()):
        raise Refused(400, f"{name}: Not a Long: {text}")
    return text


def read_parent(data: dict[str, Any], workspaces: Mapping[str, WorkspaceSpec]) -> Parent:
    """The parent a graph export asks for."""
    gid = read_gid(data, "parent")
    parent = find_parent(workspaces, gid)
    if parent:
        return parent
    if is_no_parent(workspaces, gid):
        raise Refused(400, f"parent: Not a recognized ID: {gid}")
    raise unknown("parent", gid)


def read_workspace(data: dict[str, Any], workspaces: Mapping[str, WorkspaceSpec]) -> WorkspaceSpec:
    """The workspace a resource export asks for."""
    gid = read_gid(data, "workspace")
    workspace = workspaces.get(gid)
    if workspace is None:
        raise unknown("workspace", gid)
    return workspace


def read_items(data: dict[str, Any], settings: SandboxSettings) -> tuple[Item, ...]:
    """What a resource export is to contain."""
    listed = data.get("export_request_parameters")
    if listed is None or listed == []:
        raise missing("export_request_parameters")
    if not isinstance(listed, list):
        raise Refused(400, "export_request_parameters: Not an Array")
    return tuple(_read_item(item, settings) for item in listed)


def _read_item(item: Any, settings: SandboxSettings) -> Item:
    if not isinstance(item, dict):
        raise Refused(400, "export_request_parameters: Not an Object")
    resource_type = item.get("resource_type")
    if resource_type is None:
        raise missing("resource_type")
    if resource_type not in RESOURCE_TYPES:
        raise Refused(400, f"resource_type: Not a valid resource type: {resource_type}")
    wanted = item.get("filters") or {}
    if not isinstance(wanted, dict):
        raise Refused(400, "filters: Not an Object")
    fields = item.get("fields") or None
    if fields is not None and not (
        isinstance(fields, list) and all(isinstance(path, str) for path in fields)
    ):
        raise Refused(400, "fields: Not an Array of strings")
    return Item(
        resource_type,
        filters.parse(resource_type, wanted, strict=settings.strict_filters),
        parse(fields) if fields else None,
    )
