"""The command, as people type it."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from tests.processes import Process, until

COMMANDS = (
    "up",
    "api",
    "worker",
    "migrate",
    "sandbox",
    "demo",
    "keys create",
    "verify",
    "openapi",
    "receipt verify",
    "receipt new-key",
)


class Shell:
    """Commands run with a data folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._many = 0

    def start(self, *arguments: str, **env: str) -> Process:
        self._many += 1
        variables = {"DATA_DIR": str(self._folder / "data"), "PORT": "0"} | env
        named = {f"ASANA_EXPORTS_{name}": value for name, value in variables.items()}
        return Process(self._folder / f"{self._many}.log", *arguments, env=named)

    async def run(self, *arguments: str, **env: str) -> tuple[int, str]:
        with self.start(*arguments, **env) as process:
            code = await process.ended(60)
            return code, process.output()


@pytest.fixture
def shell(folder: Path) -> Shell:
    return Shell(folder)


def test_every_command_explains_itself() -> None:
    overview = CliRunner().invoke(cli, ["--help"]).output
    for command in COMMANDS:
        assert command.split()[0] in overview
        result = CliRunner().invoke(cli, [*command.split(), "--help"])
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 5


async def test_the_service_comes_up_with_a_key_and_goes_down_without_a_trace(shell: Shell) -> None:
    with shell.start("up", "--sandbox", "--sandbox-port", "0") as up:
        docs = (await up.said("Docs:", within=120)).split()[-1]
        key = (await up.said("API key")).split()[-1]
        async with httpx.AsyncClient(base_url=docs.removesuffix("/docs"), trust_env=False) as http:
            await until_ready(http)
            http.headers["Authorization"] = f"Bearer {key}"
            token = {"name": "service", "token": "sandbox-service-token"}
            assert (await http.post("/v1/credentials", json=token)).status_code == 201
            options = ("--scope", "exports:read", "--default-workspace", "1001")
            code, other = await shell.run("keys", "create", "bi", *options)
            assert code == 0
            clients = (await http.get("/v1/clients")).json()["items"]
            assert [client["default_workspace"] for client in clients] == [None, "1001"]
            http.headers["Authorization"] = f"Bearer {other.strip().splitlines()[-1]}"
            assert (await http.get("/v1/exports")).status_code == 200
            assert (await http.get("/v1/credentials")).status_code == 403
            up.signal(signal.SIGTERM)
            assert await up.ended(30) == 0
            with pytest.raises(httpx.ConnectError):
                await http.get("/healthz")
    with shell.start("up") as again:
        await again.said("Docs:", within=120)
        assert "first API key" not in again.output()
        again.signal(signal.SIGINT)
        assert await again.ended(30) == 0


async def test_the_parts_end_with_a_parent_that_was_killed(shell: Shell) -> None:
    with shell.start("up") as up:
        docs = (await up.said("Docs:", within=120)).split()[-1]
        async with httpx.AsyncClient(base_url=docs.removesuffix("/docs"), trust_env=False) as http:
            await until_ready(http)
            up.kill()

            async def gone() -> bool | None:
                try:
                    await http.get("/healthz")
                except httpx.TransportError:
                    return True
                return None

            await until(gone, 10, lambda: "the end of the API")


async def test_a_part_that_fails_takes_the_service_down_and_is_named(shell: Shell) -> None:
    with shell.start("up") as up:
        await up.said("Docs:", within=120)
        port = re.search(r":(\d+)/docs", up.output())
        assert port
        code, said = await shell.run("up", PORT=port[1])
    assert code == 1
    assert "Address already in use" in said
    assert "asana-exports: the api has ended with exit code 1" in said


@pytest.mark.parametrize("command", [["worker"], ["keys", "create", "bi"]])
async def test_a_database_without_tables_is_told_and_what_to_do(shell: Shell, command: list[str]) -> None:
    code, said = await shell.run(*command)
    assert code == 1
    assert "Run `asana-exports migrate`" in said
    assert "Traceback" not in said
    assert (await shell.run("migrate"))[0] == 0
    assert (await shell.run("keys", "create", "bi"))[0] == 0


async def test_a_taken_name_of_a_key_is_told(shell: Shell) -> None:
    await shell.run("migrate")
    assert (await shell.run("keys", "create", "bi"))[0] == 0
    code, said = await shell.run("keys", "create", "bi")
    assert code == 1
    assert "There is a client named 'bi' already." in said


async def test_keys_are_listed_and_revoked(shell: Shell) -> None:
    await shell.run("migrate")
    await shell.run("keys", "create", "bi", "--workspace", "1001", "--workspace", "1001")
    assert (await shell.run("keys", "revoke", "bi"))[0] == 0
    code, listed = await shell.run("keys", "list")
    assert code == 0
    assert re.search(r"bi +exports:write .*1001 +never +revoked", listed)
    code, said = await shell.run("keys", "revoke", "nobody")
    assert (code, "There is no client named 'nobody'." in said) == (1, True)


async def test_a_key_of_nonsense_is_refused(shell: Shell) -> None:
    options = ("--workspace", "foo,bar", "--default-workspace", "*")
    code, said = await shell.run("keys", "create", "", *options)
    assert code == 1
    assert "  name: " in said
    assert "  grants.0.workspace: " in said
    assert "  default_workspace: " in said


async def test_keys_that_do_not_fit_the_tokens_are_told_at_the_start(shell: Shell) -> None:
    with shell.start("up", "--sandbox", "--sandbox-port", "0") as up:
        docs = (await up.said("Docs:", within=120)).split()[-1]
        key = (await up.said("API key")).split()[-1]
        async with httpx.AsyncClient(base_url=docs.removesuffix("/docs"), trust_env=False) as http:
            body = {"name": "service", "token": "sandbox-service-token"}
            headers = {"Authorization": f"Bearer {key}"}
            assert (await http.post("/v1/credentials", json=body, headers=headers)).status_code == 201
        up.signal(signal.SIGTERM)
        await up.ended(30)
    for part in ("api", "worker"):
        code, said = await shell.run(part, SECRET_KEYS="A" * 43 + "=")
        assert code == 1
        assert "no key in ASANA_EXPORTS_SECRET_KEYS decrypts this token" in said


async def test_wrong_settings_are_told_all_at_once_without_their_values(shell: Shell) -> None:
    wrong = {
        "PORT": "70000",
        "STORE_URL": "ftp://secret-place/x",
        "LEASE_SECONDS": "soon",
        "DATABASE_URL": "postgresql://u:p@secret-place@host/x",
        "LISTEN_DATABASE_URL": "secret-place",
    }
    code, said = await shell.run("api", **wrong)
    assert code == 1
    for name in map(str.lower, wrong):
        assert f"  {name}: " in said
    assert "secret-place" not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"SECRET_KEYS": "not-a-key"}, "32 bytes in urlsafe base64"),
        ({"DATABASE_URL": "postgresql://localhost:1/x"}, "set ASANA_EXPORTS_SECRET_KEYS"),
        (
            {"DATABASE_URL": "postgresql://localhost:1/x", "SECRET_KEYS": "A" * 43 + "="},
            "the database does not answer",
        ),
    ],
)
async def test_what_a_person_can_mend_is_told_without_a_traceback(
    shell: Shell, env: dict[str, str], words: str
) -> None:
    code, said = await shell.run("api", **env)
    assert code == 1
    assert words in said
    assert "Traceback" not in said


async def test_the_demonstration_keeps_its_promises(shell: Shell, folder: Path) -> None:
    code, said = await shell.run("demo", COLUMNS="100")
    assert code == 0, said
    assert said.count("succeeded") >= 8
    assert "behind_others" in said
    assert "upstream_slot_busy" in said
    locations = re.findall(r"file://(\S+\.jsonl\.gz)", said)
    assert len(locations) == len(re.findall(r"sha256 [0-9a-f]{64}", said)) == 4
    kept = os.walk(folder / "data" / "demo" / "files")
    assert sorted(locations) == sorted(f"{below}/{name}" for below, _, names in kept for name in names)


async def test_a_demonstration_that_goes_wrong_says_why(shell: Shell) -> None:
    code, said = await shell.run("demo", RUN_LIMIT_SECONDS="0.1")
    assert code == 1
    assert "has failed: " in said
    assert "run-timeout" in said


async def until_ready(http: httpx.AsyncClient) -> None:
    async def look() -> bool | None:
        return (await http.get("/readyz")).status_code == 200 or None

    await until(look, 20, lambda: "a ready service")
