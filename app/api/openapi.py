"""The description of the API beyond what the endpoints say of themselves."""

from typing import Any

from fastapi import FastAPI

from app.api.problems import MEDIA_TYPE

DESCRIPTION = """Exports of Asana, one at a time per workspace, archived and verified.

Submit an export, follow it until it has `succeeded`, download its file. Every call but health, docs and
problem pages needs `Authorization: Bearer <API key>`. Every error is a problem document (RFC 9457) whose
`code` never changes.
"""
TAGS = [
    {"name": "exports", "description": "One request each, and its outcome: ask for them and follow them."},
    {"name": "artifacts", "description": "The verified files of succeeded exports."},
    {"name": "workspaces", "description": "The workspaces that can be exported, each with its credential."},
    {"name": "lanes", "description": "A workspace's queue and its one slot at Asana."},
    {
        "name": "clients",
        "description": "Internal callers, their keys, grants and quotas, for administrators.",
    },
    {"name": "credentials", "description": "Asana tokens, write-only, for administrators."},
    {"name": "attention", "description": "What an administrator should look at."},
    {"name": "health", "description": "For load balancers and orchestrators."},
    {"name": "problems", "description": "What each problem code means, for people."},
]


def describe_problems(app: FastAPI) -> None:
    """Let the document say that errors come as problem documents, where FastAPI would say plain JSON."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = make()
            for path in document["paths"].values():
                for operation in path.values():
                    _mend(operation["responses"])
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _mend(responses: dict[str, Any]) -> None:
    for response in responses.values():
        content = response.get("content", {})
        if MEDIA_TYPE in content:
            for other in content.keys() - {MEDIA_TYPE}:
                content[MEDIA_TYPE] |= content.pop(other)
