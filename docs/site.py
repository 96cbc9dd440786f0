"""What of the site is made when it is built: the API's reference, the problems, the list of decisions."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from app.main import create_app
from app.problems import EXPLANATIONS

Json = dict[str, Any]
# Files of the repository that are no pages: there they can be followed, here only be named.
OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")
METHODS = ("get", "put", "post", "patch", "delete")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    decisions = sorted(Path(config.docs_dir).glob("decisions/*.md"))
    nav = [*(config.nav or []), {"Decisions": [f"decisions/{path.name}" for path in decisions]}]
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, content in (("api.md", api(create_app().openapi())), ("problems.md", problems())):
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return OUTWARD.sub(r"\1", markdown)


def problems() -> str:
    """All codes, as the service's own pages tell them."""
    lines = ["# Problems", "", "Errors are problem documents (RFC 9457); decide by their `code`.", ""]
    for code, told in EXPLANATIONS.items():
        lines += [f"## {code}", "", told.title, "", told.advice, ""]
    return "\n".join(lines)


def api(document: Json) -> str:
    """The description of the API, operation by operation."""
    lines = ["# API", "", "Served at `/openapi.json` and, to be tried, at `/docs`.", ""]
    for tag in document["tags"]:
        lines += [f"## {tag['name'].capitalize()}", "", tag.get("description", ""), ""]
        for path, operations in document["paths"].items():
            for method in METHODS:
                operation = operations.get(method)
                if operation and tag["name"] in operation["tags"]:
                    lines += [*_operation(document, f"{method.upper()} {path}", operation), ""]
    return "\n".join(lines)


def _operation(document: Json, name: str, operation: Json) -> Iterator[str]:
    yield from (f"### `{name}`", "", operation.get("description", operation["summary"]), "")
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | |", "|---|---|---|")
        for given in parameters:
            yield f"| `{given['name']}` | {given['in']} | {_line(given.get('description', ''))} |"
        yield ""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        yield from _fields(document, media["schema"])
    yield from ("| status | |", "|---|---|")
    for status, answer in operation["responses"].items():
        yield f"| {status} | {_line(_meant(document, answer)['description'])} |"


def _fields(document: Json, schema: Json) -> Iterator[str]:
    meant = _meant(document, schema)
    required = meant.get("required", [])
    yield from ("| field | | |", "|---|---|---|")
    for name, field in meant.get("properties", {}).items():
        need = "required" if name in required else ""
        yield f"| `{name}` | {need} | {_line(field.get('description', ''))} |"
    yield ""


def _meant(document: Json, thing: Json) -> Json:
    """What a reference stands for."""
    while "$ref" in thing:
        found: Any = document
        for step in thing["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        thing = found
    return thing


def _line(text: str) -> str:
    """As a cell of a table has it."""
    return " ".join(text.split()).replace("|", "\\|")
