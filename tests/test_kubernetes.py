"""What the manifests name exists: fields of Kubernetes, commands, settings, paths, each other."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dotenv import dotenv_values
from typer.testing import CliRunner

from app.cli import cli
from app.cli.serving import DRAIN_SECONDS
from app.main import create_app
from app.settings import Settings
from tests.test_containers import settings_in

FOLDER = Path(__file__).parents[1] / "deploy/kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    each for name in KUSTOMIZATION["resources"] for each in yaml.safe_load_all((FOLDER / name).read_text())
]
PODS = {each["metadata"]["name"]: each["spec"]["template"] for each in OBJECTS if "template" in each["spec"]}
NAME = "app.kubernetes.io/name"


def selectors(thing: Any) -> Iterator[dict[str, Any]]:
    """Of labels, wherever one stands."""
    if isinstance(thing, dict):
        for name, value in thing.items():
            if name in {"matchLabels", "selector"} and NAME in value:
                yield value
            yield from selectors(value)
    elif isinstance(thing, list):
        for each in thing:
            yield from selectors(each)


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: f"{thing['kind']} {thing['metadata']['name']}")
def test_kubernetes_knows_each_of_their_fields(thing: dict[str, Any]) -> None:
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_applied() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert there == set(KUSTOMIZATION["resources"])
    (image,) = {each["name"] for each in KUSTOMIZATION["images"]}
    assert {pod["spec"]["containers"][0]["image"] for pod in PODS.values()} == {image}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_a_command_that_exists_as_an_ordinary_user(name: str) -> None:
    spec = PODS[name]["spec"]
    (container,) = spec["containers"]
    assert CliRunner().invoke(cli, [*container["args"], "--help"]).exit_code == 0
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        each["name"] for each in spec["volumes"]
    }
    refs = {next(iter(source.values()))["name"] for source in container["envFrom"]}
    made = KUSTOMIZATION["configMapGenerator"] + KUSTOMIZATION["secretGenerator"]
    assert refs == {each["name"] for each in made}


def test_settings_named_in_the_files_exist() -> None:
    named = {name for path in FOLDER.glob("*.env") for name in settings_in(path.read_text())}
    assert {"database_url", "secret_keys", "store_url"} <= named <= set(Settings.model_fields)


def test_the_api_is_asked_where_it_answers() -> None:
    (container,) = PODS["api"]["spec"]["containers"]
    paths = create_app().openapi()["paths"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"]
    assert container["ports"][0]["containerPort"] == 8080


def test_what_is_begun_may_be_finished() -> None:
    spec = PODS["api"]["spec"]
    sleeps = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drains = float(dotenv_values(FOLDER / "settings.env")["ASANA_EXPORTS_DRAIN_SECONDS"] or 0)
    assert spec["terminationGracePeriodSeconds"] > sleeps + drains + DRAIN_SECONDS
    assert drains > spec["containers"][0]["readinessProbe"]["periodSeconds"]


def test_selectors_select_something() -> None:
    named = {pod["metadata"]["labels"][NAME] for pod in PODS.values()}
    found = [selector[NAME] for thing in OBJECTS for selector in selectors(thing)]
    assert len(found) > len(OBJECTS) - 2
    assert set(found) <= named
    (of_all,) = KUSTOMIZATION["labels"]
    way_out = next(each for each in OBJECTS if each["metadata"]["name"] == "way-out")
    assert way_out["spec"]["podSelector"]["matchLabels"] == of_all["pairs"]
    assert of_all["includeTemplates"]
