"""The description of the API beyond what the endpoints say of themselves."""

from typing import Any

from fastapi import FastAPI

from app.api.asana_errors import speaks_asana
from app.api.examples import EXAMPLES
from app.api.notices import describe_notices
from app.api.problems import MEDIA_TYPE

DESCRIPTION = """Exports of Asana, one at a time per workspace, archived and verified.

Submit an export, follow it until it has `succeeded`, download its file. Every call but health, docs, problem
pages, the keys of receipts and download URLs needs `Authorization: Bearer <API key>`. Every error is a
problem document (RFC 9457) whose `code` never changes; below `/api/1.0` it is in Asana's form.
"""
TAGS = [
    {"name": "exports", "description": "One request each, and its outcome: ask for them and follow them."},
    {"name": "artifacts", "description": "The verified files of succeeded exports."},
    {"name": "events", "description": "What happened, in one order for all who follow it."},
    {"name": "schedules", "description": "Exports that are asked for by the clock."},
    {
        "name": "asana",
        "description": "Exports as Asana's own API has them, for what is written for Asana: another host, "
        "another token. Errors are in Asana's envelope.",
    },
    {"name": "workspaces", "description": "The workspaces that can be exported, each with its credential."},
    {"name": "lanes", "description": "A workspace's queue and its one slot at Asana."},
    {
        "name": "clients",
        "description": "Internal callers, their keys, grants and quotas, for administrators.",
    },
    {"name": "credentials", "description": "Asana tokens, write-only, for administrators."},
    {
        "name": "webhooks",
        "description": "Being told of events over HTTP, signed as Standard Webhooks has it.",
    },
    {"name": "attention", "description": "What an administrator should look at."},
    {"name": "health", "description": "For load balancers and orchestrators."},
    {"name": "problems", "description": "What each problem code means, for people."},
]


STRING: dict[str, Any] = {"type": "string"}
SECONDS: dict[str, Any] = {"type": "integer", "minimum": 0}
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-Id": {"schema": STRING, "description": "The request's id: the one it came with, or ours."},
    "RateLimit-Policy": {
        "schema": STRING,
        "description": "Your limits, each with its quota `q`, and its window `w` in seconds if it has one.",
        "example": '"requests";q=6000;w=60, "queued";q=100',
    },
    "RateLimit": {
        "schema": STRING,
        "description": "What remains `r` of each limit, and in how many seconds `t` it is whole again.",
        "example": '"requests";r=5999;t=42, "queued";r=97',
    },
    "Retry-After": {"schema": SECONDS, "description": "Seconds until it is worth asking again."},
    "WWW-Authenticate": {"schema": STRING, "description": "What is wrong with the key (RFC 6750)."},
    "Location": {"schema": STRING, "description": "Where to find what was made."},
    "ETag": {"schema": STRING, "description": "The version; send it back in `If-None-Match`."},
    "Preference-Applied": {"schema": STRING, "description": "How long the answer could wait for news."},
    "Idempotency-Replayed": {
        "schema": {"const": "true"},
        "description": "Present where an earlier request with the key has made it.",
    },
    "Link": {"schema": STRING, "description": 'The next page, as `rel="next"` (RFC 8288).'},
}
# FastAPI's own, for faults of requests: ours are others.
UNUSED = ("HTTPValidationError", "ValidationError")
ALWAYS = ("X-Request-Id",)
WITH_KEY = ("RateLimit-Policy", "RateLimit")
BY_STATUS: dict[str, tuple[str, ...]] = {
    "201": ("Location",),
    "304": ("ETag",),
    "401": ("WWW-Authenticate",),
    "403": ("WWW-Authenticate",),
    "409": ("Retry-After",),
    "429": ("Retry-After",),
    "503": ("Retry-After",),
}
BY_MODEL: dict[str, tuple[str, ...]] = {
    "ExportOut": ("ETag", "Retry-After"),
    "ExportPage": ("Link",),
    "DeliveryPage": ("Link",),
    "ManifestOut": ("ETag",),
    "ConversionOut": ("Retry-After",),
    "RefetchOut": ("Retry-After",),
}
BY_OPERATION: dict[str, tuple[str, ...]] = {
    "create_resource_export": ("Location", "Idempotency-Replayed"),
    "create_graph_export": ("Location", "Idempotency-Replayed"),
    "retry_export": ("Location", "Idempotency-Replayed"),
    "post_schedule": ("Idempotency-Replayed",),
    "create_webhook_endpoint": ("Idempotency-Replayed",),
    "rotate_webhook_secret": ("Idempotency-Replayed",),
    "start_resource_export": ("Idempotency-Replayed",),
    "start_graph_export": ("Idempotency-Replayed",),
    "get_export": ("Preference-Applied",),
    "request_output": ("Location",),
    "refetch_artifact": ("Location",),
}


def describe(app: FastAPI) -> None:
    """Let the document say what FastAPI does not: errors are problem documents, answers have headers."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            document["components"]["headers"] = HEADERS
            # Put in here, for FastAPI leaves the nulls of an example out.
            for name, example in EXAMPLES.items():
                document["components"]["schemas"][name]["examples"] = [example]
            for name in UNUSED:
                document["components"]["schemas"].pop(name, None)
            describe_notices(document["webhooks"])
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if speaks_asana(path):
                        operation["responses"].pop("422", None)
                    operation.setdefault("security", [])
                    for status, response in operation["responses"].items():
                        _as_problem(response)
                        _with_headers(operation, status, response)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _as_problem(response: dict[str, Any]) -> None:
    content = response.get("content", {})
    if MEDIA_TYPE in content:
        for other in content.keys() - {MEDIA_TYPE}:
            content[MEDIA_TYPE] |= content.pop(other)


def _with_headers(operation: dict[str, Any], status: str, response: dict[str, Any]) -> None:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    names = [
        *ALWAYS,
        *(WITH_KEY if operation["security"] and status != "401" else ()),
        *BY_STATUS.get(status, ()),
        *BY_MODEL.get(schema.get("$ref", "").rpartition("/")[-1], ()),
        *(BY_OPERATION.get(operation["operationId"], ()) if status < "300" else ()),
    ]
    known = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    response["headers"] = known | response.get("headers", {})
