"""What administrators and tools do by the command: schedules, webhooks, clients, tokens."""

import json
from pathlib import Path

import pytest

from asana_exports_client.cli.exits import Exit
from tests.client.shell import Shell
from tests.system.conftest import Service


@pytest.fixture
def shell(api: str, service: Service, tmp_path: Path) -> Shell:
    folder = tmp_path / "home"
    folder.mkdir()
    return Shell(folder, {"ASANA_EXPORTS_URL": api, "ASANA_EXPORTS_KEY": service.tenants["1001"].key})


async def test_schedules(shell: Shell) -> None:
    made = await shell.run(
        "schedules", "create", "changed tasks", "-w", "1001", "--type", "task", "--cron", "0 3 * * *",
        "--timezone", "Europe/Berlin", "--modified-after", "last-success", "--overlap", "30m",
        "--first", "2026-01-01", "--created-after", "24h", "--jitter", "5m", "--catch-up", "latest",
        "--deliver-within", "2h", "--label", "team=bi", "--note", "for the board",
    )  # fmt: skip
    schedule = made.out.strip()
    assert (made.code, schedule[:4]) == (Exit.OK, "sch_")
    shown = (await shell.run("schedules", "show", schedule, "--json")).json()
    assert (shown["jitter"], shown["catch_up"], shown["timezone"]) == (300, "latest", "Europe/Berlin")
    assert shown["export"]["labels"] == {"team": "bi"}
    assert shown["export"]["deliver_within"] == 7200
    [item] = shown["export"]["export_request_parameters"]
    assert item["filters"]["modified_at.after"] == {
        "since": "last_success", "overlap": "30m", "first": "2026-01-01T00:00:00Z"
    }  # fmt: skip
    assert item["filters"]["created_at.after"] == {"relative": "-86400s"}
    assert [line.split("\t")[0] for line in (await shell.run("schedules", "ls")).out.splitlines()] == [
        schedule
    ]
    slots = (await shell.run("schedules", "preview", schedule, "-n", "3")).out.splitlines()
    assert len(slots) == 3
    assert all(" 03:00:00" in line for line in slots)
    assert len((await shell.run("schedules", "preview", "--cron", "0 * * * *", "--json")).lines()) == 10
    assert (await shell.run("schedules", "preview")).code == Exit.USAGE
    assert "paused\t2" in (await shell.run("schedules", "pause", schedule)).out
    assert (await shell.run("schedules", "resume", schedule, "--json")).json()["next_slot"]
    assert (await shell.run("schedules", "rm", schedule)).code == Exit.OK
    assert (await shell.run("schedules", "show", schedule)).code == Exit.NOT_FOUND
    graph = await shell.run(
        "schedules", "create", "graph", "-w", "1001", "--parent", "10012001", "--cron", "0 3 * * *", "--json"
    )
    assert graph.json()["export"]["parent"] == "10012001"
    items = json.dumps([{"resource_type": "team"}])
    teams = await shell.run(
        "schedules", "create", "teams", "-w", "1001", "--parameters", "-", "--cron", "@daily", stdin=items
    )
    assert (teams.code, "/cron" in teams.err) == (Exit.REFUSED, True)


async def test_webhooks(shell: Shell) -> None:
    made = await shell.run(
        "webhooks", "create", "https://hooks.example.com/x", "--type", "export.failed", "-w", "1001",
        "--json", secret=True,
    )  # fmt: skip
    endpoint = made.json()["id"]
    assert made.json()["url"] == "https://hooks.example.com/x"
    assert made.json()["secret"].startswith("whsec_")
    assert (made.json()["types"], made.json()["workspaces"]) == (["export.failed"], ["1001"])
    rotated = await shell.run("webhooks", "rotate", endpoint, secret=True)
    assert rotated.out.startswith("whsec_")
    assert rotated.out.strip() != made.json()["secret"]
    assert endpoint in (await shell.run("webhooks", "ls")).out
    assert "state\topen" in (await shell.run("webhooks", "show", endpoint)).out
    sent = (await shell.run("webhooks", "test", endpoint)).out.strip()
    [delivery] = (await shell.run("webhooks", "deliveries", endpoint, "--json")).lines()
    assert (delivery["id"], delivery["type"]) == (sent, "webhook.test")
    assert (await shell.run("webhooks", "replay", endpoint, "--since", "1h", "--json")).json()[
        "deliveries"
    ] >= 0
    assert (await shell.run("webhooks", "replay", endpoint)).code == Exit.USAGE
    assert (await shell.run("webhooks", "rm", endpoint)).code == Exit.OK
    assert (await shell.run("webhooks", "show", endpoint)).code == Exit.NOT_FOUND


async def test_clients_and_their_keys(shell: Shell) -> None:
    made = await shell.run("clients", "create", "bi", "-w", "1001", "--kind", "resource", secret=True)
    key = made.out.strip()
    other = Shell(shell.folder, {**shell.env, "ASANA_EXPORTS_KEY": key})
    assert (await other.run("ls")).code == Exit.OK
    assert (await other.run("run", "-w", "1002", "--no-wait")).code == Exit.NOT_FOUND
    [client] = [each for each in (await shell.run("clients", "ls", "--json")).lines() if each["name"] == "bi"]
    assert client["grants"][0]["kinds"] == ["resource"]
    new = (await shell.run("clients", "replace", client["id"], secret=True)).out.strip()
    assert (await other.run("ls")).code == Exit.NOT_AUTHORISED
    other.env["ASANA_EXPORTS_KEY"] = new
    assert (await other.run("ls")).code == Exit.OK
    assert "bi" in (await shell.run("clients", "revoke", client["id"])).err
    assert (await other.run("ls")).code == Exit.NOT_AUTHORISED
    assert "revoked" in (await shell.run("clients", "ls")).out


async def test_tokens_and_workspaces(shell: Shell, service: Service) -> None:
    made = await shell.run("credentials", "add", "another", stdin="sandbox-service-token\n")
    credential = made.out.strip()
    assert credential.startswith("cred_")
    assert credential in (await shell.run("credentials", "ls")).out
    replaced = await shell.run("credentials", "replace", credential, stdin="sandbox-service-token")
    assert replaced.code == Exit.OK
    assert (await shell.run("credentials", "add", "none")).code == Exit.USAGE
    assert (await shell.run("workspaces", "rm", "1005")).code == Exit.OK
    assert (await shell.run("run", "-w", "1005")).code == Exit.NOT_FOUND
    added = await shell.run("workspaces", "add", "1005", "--credential", credential, "--json")
    assert (added.json()["gid"], added.json()["credential"]) == ("1005", credential)
    listed = (await shell.run("workspaces", "ls")).out.splitlines()
    assert [line.split("\t")[0] for line in listed] == sorted(service.tenants)
