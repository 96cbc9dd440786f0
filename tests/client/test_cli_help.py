"""What can be known of `asana-exports` without a service."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.progress import Progress
from typer.core import TyperGroup

from app.commands import COMMANDS, load
from asana_exports_client.cli.commands import Deferred, command
from asana_exports_client.cli.exits import Exit
from asana_exports_client.cli.following import MOST, ExpectedColumn
from asana_exports_client.cli.screen import ago, span
from asana_exports_client.cli.values import moment, seconds
from tests.client.shell import Shell

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def commands_in(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, each in group.commands.items():
        found = each.load() if isinstance(each, Deferred) else each
        yield (*path, name), found
        if isinstance(found, TyperGroup):
            yield from commands_in(found, (*path, name))


EVERY = dict(commands_in(command()))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_explains_itself_in_eighty_columns(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        command().main([*path, "--help"], prog_name="asana-exports")
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0
    assert max(map(len, lines)) <= 80
    says = EVERY[path].help.splitlines()[0].replace("`", "")
    assert says in " ".join(" ".join(lines).split())


def test_no_parameter_is_taken_for_another() -> None:
    for path, each in EVERY.items():
        names = [parameter.name for parameter in each.params]
        assert len(names) == len(set(names)), path


def test_the_services_own_commands_are_among_them_and_clash_with_none() -> None:
    theirs = load()
    assert dict(COMMANDS) == {name: each.help.splitlines()[0] for name, each in theirs.commands.items()}
    ours = {name for name, each in command().commands.items() if not isinstance(each, Deferred)}
    assert not ours & set(COMMANDS)
    assert {name for name, each in command().commands.items() if isinstance(each, Deferred)} == set(COMMANDS)


async def test_they_are_run_as_before(tmp_path: Path) -> None:
    said = await Shell(tmp_path).run("openapi")
    assert (said.code, '"openapi":' in said.out) == (Exit.OK, True)
    wrong = await Shell(tmp_path, {"ASANA_EXPORTS_PORT": "70000"}).run("migrate")
    assert (wrong.code, "  port: " in wrong.err) == (Exit.OTHER, True)
    lost = await Shell(tmp_path).run("keys", "create")
    assert (lost.code, "asana-exports keys create --help" in lost.err) == (Exit.USAGE, True)


def test_help_imports_nothing_of_the_service() -> None:
    code = (
        "import sys\nfrom asana_exports_client.cli.commands import command\n"
        "command().main(['--help'], standalone_mode=False)\n"
        "print({'fastapi', 'pyarrow', 'sqlalchemy'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "set()\n")
    assert "Service" in done.stdout


@pytest.mark.parametrize("missing", ["rich", "tomli_w", "typer"])
def test_without_its_extra_it_says_so(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None\nfrom asana_exports_client.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "asana-exports: this needs more: pip install 'asana-exports-client[cli]'\n"


async def test_a_shell_can_complete_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path, {"_ASANA_EXPORTS_COMPLETE": "source_bash"})
    script = await shell.run()
    assert (script.code, "complete -o default -F" in script.out) == (Exit.OK, True)
    completing = {"_ASANA_EXPORTS_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    said = await Shell(tmp_path, {**completing, "COMP_WORDS": "asana-exports wo"}).run()
    assert sorted(said.out.split()) == ["worker", "workspaces"]


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("0", 0)]
)
def test_times_are_read(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "1w", "h", "1h30m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no time"):
        seconds(text)


def test_moments_are_read() -> None:
    assert moment("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    assert moment("2026-01-31T12:00:00+01:00") == datetime(2026, 1, 31, 11, tzinfo=UTC)
    assert timedelta(hours=23) < datetime.now(UTC) - moment("24h") < timedelta(hours=25)


@pytest.mark.parametrize(
    ("passed", "says"),
    [
        (0, "now"), (5, "5 s ago"), (119, "1 min ago"), (-119, "in 1 min"), (7300, "2 h ago"),
        (3 * 86400, "3 d ago"), (40 * 86400, "2025-12-22"),
    ],
)  # fmt: skip
def test_a_moment_is_told_as_people_do(passed: float, says: str) -> None:
    assert ago(NOW - timedelta(seconds=passed), NOW) == says


@pytest.mark.parametrize(
    ("begun", "ends", "shown"), [(-30, 30, 0.5), (-90, -30, MOST), (10, 20, 0), (-30, -30, MOST)]
)
def test_a_bar_shows_how_much_of_the_estimate_is_over(begun: float, ends: float, shown: float) -> None:
    now = datetime.now(UTC)
    with Progress(disable=True) as live:
        expected = now + timedelta(seconds=begun), now + timedelta(seconds=ends)
        live.add_task("running", total=None, expected=expected)
        live.add_task("queued", total=None, expected=None)
        known, unknown = map(ExpectedColumn().render, live.tasks)
    assert known.completed == pytest.approx(shown, abs=0.1)
    assert (known.pulse, unknown.pulse) == (False, True)


@pytest.mark.parametrize(
    ("lasted", "says"),
    [(0, "0 ms"), (0.25, "250 ms"), (2.5, "2.5 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h")],
)
def test_a_time_is_told_as_people_do(lasted: float, says: str) -> None:
    assert span(lasted) == says
