"""The description of the API, and its pages."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from app.main import create_app
from app.problems import Code
from tests.api.conftest import Api

DOCUMENT: dict[str, Any] = create_app().openapi()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(operations())


def test_operations_have_short_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert DOCUMENT["openapi"].startswith("3.1")
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z_]+", name) for name in names)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_described(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation["summary"]
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    if name.split()[1].startswith("/v1"):
        assert operation["security"]
        assert {"401", "403", "404", "422", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_errors_are_declared_as_problems_with_examples(name: str) -> None:
    for status, response in OPERATIONS[name]["responses"].items():
        if status < "400" or name == "GET /readyz":
            continue
        if name.split()[1].startswith("/api/1.0/"):
            continue
        assert list(response["content"]) == ["application/problem+json"]
        problem = response["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/ProblemOut"}
        for code, example in problem["examples"].items():
            assert example["value"]["code"] == code in set(Code)
            assert str(example["value"]["status"]) == status


AT_ASANA = [name for name in OPERATIONS if "/api/1.0/" in name]


@pytest.mark.parametrize("name", AT_ASANA)
def test_errors_as_at_asana_are_declared_with_examples(name: str) -> None:
    responses = OPERATIONS[name]["responses"]
    assert {"400", "403", "404", "429", "503"} <= set(responses)
    # Asana has none of these.
    assert not {"405", "409", "415", "422"} & set(responses)
    for status, response in responses.items():
        if status < "400":
            continue
        assert list(response["content"]) == ["application/json"]
        errors = response["content"]["application/json"]
        assert errors["schema"] == {"$ref": "#/components/schemas/AsanaErrorsOut"}
        for code, example in errors["examples"].items():
            assert code in set(Code)
            assert [error["help"].partition(":")[0] for error in example["value"]["errors"]] == [code]


def models_of(operation: dict[str, Any]) -> list[dict[str, Any]]:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    names = [each["$ref"].rsplit("/", 1)[-1] for each in schema.get("oneOf", [schema])]
    return [DOCUMENT["components"]["schemas"][name] for name in names]


def test_bodies_have_examples() -> None:
    for name, operation in OPERATIONS.items():
        for model in models_of(operation) if "requestBody" in operation else ():
            fields = model["properties"].values()
            assert "examples" in model or all("examples" in field for field in fields), name


def test_answers_have_examples() -> None:
    """That they are what their schemas say, the linter of `make check` sees."""
    answered = {
        content["schema"]["$ref"].rsplit("/", 1)[-1]
        for operation in OPERATIONS.values()
        for status, response in operation["responses"].items()
        for media_type, content in response.get("content", {}).items()
        if status < "300" and media_type == "application/json"
    }
    assert len(answered) > 10
    for name in answered:
        assert DOCUMENT["components"]["schemas"][name]["examples"], name


def test_each_value_of_an_enum_is_described() -> None:
    enums = {name: schema for name, schema in DOCUMENT["components"]["schemas"].items() if "enum" in schema}
    assert "Status" in enums
    for name, schema in enums.items():
        for value in schema["enum"]:
            assert f"`{value}`" in schema["description"], f"{name}: {value}"


def test_answers_name_their_headers() -> None:
    submitted = OPERATIONS["POST /v1/exports/resource"]["responses"]["202"]["headers"]
    assert {"Location", "ETag", "Retry-After", "RateLimit", "X-Request-Id"} <= set(submitted)
    assert "Retry-After" in OPERATIONS["GET /v1/exports"]["responses"]["503"]["headers"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_the_docs_need_nothing_from_elsewhere(api: Api, path: str) -> None:
    nobody = await api.anybody()
    page = await nobody.get(path)
    assert page.status_code == 200
    sources = re.findall(r'(?:src|href)\s*=\s*"([^"]+)"', page.text) + re.findall(
        r"url: '([^']+)'", page.text
    )
    assert len(sources) >= 2
    for source in sources:
        assert source.startswith("/"), source
        assert (await nobody.get(source)).status_code == 200
