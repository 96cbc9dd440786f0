"""What the client asks for is what the service has: each method, path, parameter, body and answer."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import asana_exports_client
from app.main import create_app

DOCUMENT: dict[str, Any] = create_app().openapi()
FACE = Path(asana_exports_client.__file__).parent / "_async"
# For people, machines, and what is written for Asana.
NOT_USED = {
    *(
        f"{method.upper()} {path}"
        for path, each in DOCUMENT["paths"].items()
        if path.startswith("/api/")
        for method in each
    ),
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /problems/{code}",
}
# By the URLs that the service gives.
STREAMED = {
    "GET /v1/artifacts/{artifact_id}/content",
    "GET /v1/artifacts/{artifact_id}/outputs/{format}/{output_id}/content",
}


# The bodies of requests for exports.
MADE_HERE = {"resource_body", "graph_body"}
OF_EVERY_CALL = {"query", "body", "headers", "wait", "patience", "once"}


@dataclass(frozen=True)
class Use:
    """One call of the face."""

    operation: str
    answer: str | None
    body: str | None
    query: frozenset[str]
    place: frozenset[str]
    has_key: bool


def uses() -> Iterator[Use]:
    for path in sorted(FACE.glob("*.py")):
        for method in ast.walk(ast.parse(path.read_text())):
            if isinstance(method, ast.AsyncFunctionDef):
                yield from uses_of(method)


def uses_of(method: ast.AsyncFunctionDef) -> Iterator[Use]:
    types = {each.arg: each.annotation for each in [*method.args.args, *method.args.kwonlyargs]}
    for node in ast.walk(method):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="call" | "send"), args=[ast.Constant(value=str(name)), *rest]
            ):
                given = {each.arg: each.value for each in node.keywords if each.arg}
                body = given.get("body")
                sent = types.get(body.id) if isinstance(body, ast.Name) else body
                yield Use(
                    name,
                    name_of(rest[0]) if rest else None,
                    name_of(sent.func if isinstance(sent, ast.Call) else sent) if sent else None,
                    frozenset(keys(given.get("query"))),
                    frozenset(name for name in given if name not in OF_EVERY_CALL),
                    "headers" in given and "sent_once" in ast.unparse(given["headers"]),
                )


def name_of(model: ast.expr) -> str:
    return ast.unparse(model).removeprefix("models.")


def keys(query: ast.expr | None) -> Iterator[str]:
    for node in ast.walk(query) if query else ():
        if isinstance(node, ast.Dict):
            yield from (
                key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )


USES = [*uses()]


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations())


def parameters(operation: str, place: str) -> set[str]:
    return {each["name"] for each in OPERATIONS[operation].get("parameters", ()) if each["in"] == place}


def answers(operation: str) -> set[str]:
    """The names of what it answers, as the client has them."""
    return {
        content["schema"]["$ref"].rsplit("/", 1)[-1].removesuffix("Out")
        for status, response in OPERATIONS[operation]["responses"].items()
        for kind, content in response.get("content", {}).items()
        if status < "300" and "$ref" in content.get("schema", {})
    }


@pytest.mark.parametrize("use", USES, ids=lambda use: use.operation)
def test_a_call_is_one_that_the_service_has(use: Use) -> None:
    assert use.operation in OPERATIONS
    assert use.place == parameters(use.operation, "path")
    assert use.query <= parameters(use.operation, "query")
    if use.answer and use.answer != "dict[str, Any]":
        assert use.answer.removesuffix("Out") in answers(use.operation)
    if use.body and use.body not in MADE_HERE:
        assert (
            use.body
            == OPERATIONS[use.operation]["requestBody"]["content"]["application/json"]["schema"][
                "$ref"
            ].rpartition("/")[2]
        )


def test_a_call_with_a_body_is_one_that_wants_it() -> None:
    with_body = {use.operation for use in USES if use.body} | {"POST /v1/exports/plan"}
    assert with_body == {name for name, each in OPERATIONS.items() if "requestBody" in each} - NOT_USED


def test_a_call_that_makes_something_has_an_idempotency_key_where_it_may() -> None:
    keyed = {name for name in OPERATIONS if "Idempotency-Key" in parameters(name, "header")}
    assert {use.operation for use in USES if use.has_key} == keyed - NOT_USED


def test_all_that_the_service_has_can_be_called() -> None:
    assert {use.operation for use in USES} | STREAMED | NOT_USED == set(OPERATIONS)


def test_streams_have_the_parameters_that_are_sent() -> None:
    assert "dedupe" in parameters("GET /v1/artifacts/{artifact_id}/content", "query")
    assert {"after", "export", "workspace", "type", "page_size"} <= parameters("GET /v1/events", "query")
    for operation in STREAMED:
        assert {"Range", "If-Range"} <= parameters(operation, "header")


def test_bodies_have_the_fields_that_are_sent() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    options = set(asana_exports_client._requests.Options.__annotations__) - {"idempotency_key"}
    assert {"workspace", "export_request_parameters", *options} == set(
        schemas["ResourceExportCreate"]["properties"]
    )
    assert {"workspace", "parent", *options} == set(schemas["GraphExportCreate"]["properties"])
    items = {"resource_type", "fields", "filters"}
    assert items == set(schemas["ExportRequestParameter"]["properties"])
