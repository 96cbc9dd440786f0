"""What the container files name exists: commands, settings, files, ports."""

import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser
from dotenv import dotenv_values
from typer.testing import CliRunner

from app.cli import cli
from app.cli.serving import DRAIN_SECONDS
from app.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STEPS = DockerfileParser(str(ROOT)).structure
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "asana-exports"}
PROXY = ROOT / "deploy/proxy/haproxy.cfg"
SANDBOX = dotenv_values(ROOT / "deploy/sandbox.env")


def instructions(name: str) -> list[str]:
    """The arguments of an instruction of the Dockerfile, wherever it stands."""
    return [step["value"] for step in STEPS if step["instruction"] == name]


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
    for file in ("Dockerfile", "docker-compose.yml", "deploy/sandbox.env"):
        text = (ROOT / file).read_text()
        named = settings_in(text)
        assert named
        assert named <= set(Settings.model_fields)


def test_ports_agree() -> None:
    port = re.search(r"ASANA_EXPORTS_PORT=(\d+)", DOCKERFILE)
    assert port
    assert instructions("EXPOSE") == [port[1]]
    (health,) = instructions("HEALTHCHECK")
    assert f":{port[1]}/healthz" in health
    proxy = PROXY.read_text()
    (bound,) = re.findall(r"^    bind :(\d+)$", proxy, re.MULTILINE)
    assert COMPOSE["services"]["proxy"]["ports"] == [f"${{PORT:-8080}}:{bound}"]
    (behind,) = re.findall(r"^    server-template api \d+ (\w+):(\d+)$", proxy, re.MULTILINE)
    assert behind == ("api", port[1])


@pytest.mark.parametrize("service", OURS)
def test_a_service_runs_a_command_that_exists(service: str) -> None:
    command = [str(word) for word in OURS[service]["command"]]
    known = CliRunner().invoke(cli, [command[0], "--help"])
    assert known.exit_code == 0
    assert all(option in known.output for option in command if option.startswith("--"))


def test_every_service_waits_for_one_that_exists_and_volumes_are_declared() -> None:
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", {})) <= set(COMPOSE["services"])
        sources = {volume.split(":")[0] for volume in service["volumes"]}
        files = {source for source in sources if source.startswith("./")}
        assert all((ROOT / file).exists() for file in files)
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
        assert sources - files <= set(COMPOSE["volumes"])


def test_a_proxy_notices_before_a_process_takes_no_more_requests() -> None:
    ((looks, then, fall),) = re.findall(r" inter (\d+)s fastinter (\d+)ms fall (\d) ", PROXY.read_text())
    drain = COMPOSE["x-service"]["environment"]["ASANA_EXPORTS_DRAIN_SECONDS"]
    assert drain == "${ASANA_EXPORTS_DRAIN_SECONDS:-5}"
    assert 1000 * int(looks) + int(fall) * int(then) < 5000
    # And what is begun by then may take as long as it may.
    assert int(OURS["api"]["stop_grace_period"].removesuffix("s")) > 5 + DRAIN_SECONDS


def test_a_proxy_that_is_told_to_stop_may_finish_what_is_open() -> None:
    (longest,) = re.findall(r"hard-stop-after (\d+)s", PROXY.read_text())
    assert int(COMPOSE["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > int(longest)


def test_the_image_is_labelled_with_the_version_it_has() -> None:
    assert f"VERSION={version('asana-exports')}" in instructions("ARG")


def test_the_sandbox_is_where_its_file_says() -> None:
    assert SANDBOX["COMPOSE_PROFILES"] in OURS["sandbox"]["profiles"]
    assert SANDBOX["ASANA_EXPORTS_ASANA_URL"] == "http://sandbox:8500/api/1.0"
    assert SANDBOX["ASANA_EXPORTS_DOWNLOAD_HOSTS"] == "sandbox"


@pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy, as of Debian's packages")
def test_the_proxy_understands_its_file() -> None:
    subprocess.run(["haproxy", "-c", "-f", PROXY], check=True, capture_output=True)
