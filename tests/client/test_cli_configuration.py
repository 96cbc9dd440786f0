"""Which service the command talks to, and by which key."""

import stat
import tomllib
from pathlib import Path

import pytest

from asana_exports_client.cli.exits import Exit
from tests.client.shell import Shell
from tests.servers import always, answer, serving
from tests.system.conftest import Service

CONFIG = Path("config") / "asana-exports" / "config.toml"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Somebody who has not said anything yet."""
    folder = tmp_path / "home"
    folder.mkdir()
    return Shell(folder)


def key_of(service: Service) -> str:
    return service.tenants["1001"].key


async def test_who_has_not_logged_in_is_told_how(shell: Shell) -> None:
    said = await shell.run("ls")
    assert (said.code, said.out) == (Exit.NOT_AUTHORISED, "")
    assert "asana-exports login" in said.err
    assert "asana-exports login" in (await shell.run("ls", "--url", "http://127.0.0.1:9")).err


async def test_a_login_is_checked_and_kept_for_nobody_else_to_read(
    shell: Shell, api: str, service: Service
) -> None:
    wrong = await shell.run("login", "--url", api, stdin="aex_wrong\n")
    assert (wrong.code, (shell.folder / CONFIG).exists()) == (Exit.NOT_AUTHORISED, False)
    assert (await shell.run("login", stdin=key_of(service))).code == Exit.NOT_AUTHORISED
    assert (await shell.run("login", "--url", api)).code == Exit.USAGE
    assert (await shell.run("login", "--url", f"{api}/", stdin=key_of(service))).code == Exit.OK
    file = shell.folder / CONFIG
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert tomllib.loads(file.read_text())["profiles"]["default"]["url"] == api
    assert (await shell.run("ls")).code == Exit.OK

    assert (
        await shell.run("login", "--profile", "other", "--url", api, stdin=key_of(service))
    ).code == Exit.OK
    assert (await shell.run("logout")).code == Exit.OK
    assert (await shell.run("ls")).code == Exit.NOT_AUTHORISED
    assert (await shell.run("ls", "--profile", "other")).code == Exit.OK
    shell.env["ASANA_EXPORTS_PROFILE"] = "other"
    assert (await shell.run("ls")).code == Exit.OK
    assert "no profile default" in (await shell.run("logout", "--profile", "default")).err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_login_on_a_terminal_asks_and_shows_no_key(shell: Shell, api: str, service: Service) -> None:
    with shell.on_terminal("login") as terminal:
        await terminal.says("Address of the service")
        terminal.type(f"{api}\n")
        await terminal.says("API key")
        terminal.type(f"{key_of(service)}\n")
        assert await terminal.ended() == Exit.OK
        assert "Logged in to" in terminal.shown
        assert key_of(service) not in terminal.raw


async def test_an_option_goes_before_the_environment_and_that_before_the_file(
    shell: Shell, api: str, service: Service
) -> None:
    async def source(*options: str) -> tuple[str, str]:
        told = (await shell.run("status", "--json", *options)).json()
        return told["url"], told["key_from"]

    await shell.run("login", "--url", api, stdin=key_of(service))
    file = str(shell.folder / CONFIG)
    assert await source() == (api, file)
    shell.env["ASANA_EXPORTS_URL"] = "http://127.0.0.1:9"
    assert (await shell.run("ls")).code == Exit.NOT_AUTHORISED
    assert await source("--url", api) == (api, file)
    shell.env["ASANA_EXPORTS_KEY"] = key_of(service)
    assert (await shell.run("ls")).code == Exit.UNREACHABLE
    assert await source("--url", api) == (api, "ASANA_EXPORTS_KEY")
    assert await source("--profile", "default") == (api, file)


async def test_a_stored_key_is_sent_to_its_own_service_only(shell: Shell, api: str, service: Service) -> None:
    await shell.run("login", "--url", api, stdin=key_of(service))
    async with serving(always(answer(200, b"{}"))) as other:
        said = await shell.run("ls", "--url", other.url)
        assert (said.code, other.requests) == (Exit.NOT_AUTHORISED, [])
        assert f"There is no key for {other.url}" in said.err


@pytest.mark.parametrize("text", ["[profiles", "\xff\xfe", "profiles = 3"])
async def test_a_file_that_cannot_be_read_is_told_and_left_alone(shell: Shell, text: str) -> None:
    file = shell.folder / CONFIG
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="latin-1")
    for words in (["ls"], ["logout"]):
        said = await shell.run(*words)
        assert (said.code, str(file) in said.err) == (Exit.NOT_AUTHORISED, True)
    assert file.read_text(encoding="latin-1") == text
