"""What the container files name exists: commands, settings, files, ports."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from app.cli import cli
from app.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "asana-exports"}


def instructions(name: str) -> list[str]:
    """The arguments of an instruction of the Dockerfile, wherever it stands."""
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.+)$", joined, re.MULTILINE)


def settings_in(text: str) -> set[str]:
    return {name.lower() for name in re.findall(rf"\b{ENV_PREFIX}(\w+)", text)}


def test_the_image_copies_files_that_are_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert Path(source).parts[0] in kept


def test_the_image_installs_by_hash_and_runs_as_an_ordinary_user() -> None:
    installs = re.findall(r"pip install ([^\\&\n]*)", DOCKERFILE)
    assert all("--require-hashes" in each or "--no-deps wheels" in each for each in installs)
    assert instructions("USER") == ["10001"]
    assert DOCKERFILE.rindex("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT")


def test_settings_named_in_the_files_exist() -> None:
    for text in (DOCKERFILE, (ROOT / "docker-compose.yml").read_text()):
        named = settings_in(text)
        assert named
        assert named <= set(Settings.model_fields)


def test_ports_agree() -> None:
    port = re.search(r"ASANA_EXPORTS_PORT=(\d+)", DOCKERFILE)
    assert port
    assert instructions("EXPOSE") == [port[1]]
    assert COMPOSE["services"]["api"]["ports"] == [f"8080:{port[1]}"]
    assert f":{port[1]}/healthz" in COMPOSE["services"]["api"]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_that_exists(service: str) -> None:
    command = [str(word) for word in OURS[service]["command"]]
    known = CliRunner().invoke(cli, [command[0], "--help"])
    assert known.exit_code == 0
    assert all(option in known.output for option in command if option.startswith("--"))


def test_every_service_waits_for_one_that_exists_and_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        assert {volume.split(":")[0] for volume in service["volumes"]} <= set(COMPOSE["volumes"])
