"""What the pages say is so: the settings are all of them, the tour can be taken."""

import asyncio
import os
import re
import signal
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic.fields import FieldInfo

from app.settings import Settings
from tests.processes import COMMAND, Process

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "docs" / "quickstart.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
RETENTION = (ROOT / "docs" / "retention.md").read_text()
EVENTS = (ROOT / "docs" / "events.md").read_text()


def part(name: str, of: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", of, re.DOTALL)
    assert found
    return found[1]


def steps_in(page: str) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", page, re.DOTALL)


def shown(field: FieldInfo) -> str:
    value = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    match value:
        case None | "":
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case _:
            return f"`{value}`"


def test_every_setting_has_its_line() -> None:
    rows = [
        f"| `{name.upper()}` | {shown(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    table = "\n".join(["| name | default | |", "|---|---|---|", *rows]) + "\n"
    assert part("settings", CONFIGURATION) == table, f"the table should be:\n\n{table}"


async def typed(steps: str, folder: Path, env: dict[str, str]) -> str:
    """What a shell says that stops at the first step that fails."""
    shell = await asyncio.create_subprocess_exec(
        "bash", "-euc", steps, cwd=folder, env={**os.environ, **env}, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await shell.communicate()
    assert shell.returncode == 0, said.decode()
    return said.decode()


async def taken(blocks: list[str], folder: Path) -> str:
    """What is said when these steps are taken in front of a fresh service with a sandbox."""
    steps = "\n".join(blocks)
    env = {"ASANA_EXPORTS_DATA_DIR": str(folder / "data"), "ASANA_EXPORTS_PORT": "0"}
    with Process(folder / "up.log", "up", "--sandbox", "--sandbox-port", "0", env=env) as up:
        address = (await up.said("Docs:", within=120)).split()[-1].removesuffix("/docs")
        key = (await up.said("API key")).split()[-1]
        steps = steps.replace("KEY=aex_...", f"KEY={key}").replace("http://127.0.0.1:8080", address)
        steps = steps.replace(".venv/bin/asana-exports", str(COMMAND))
        said = await typed(steps, folder, env)
        up.signal(signal.SIGTERM)
        await up.ended(30)
    return said


async def test_events_can_be_followed_as_written(folder: Path) -> None:
    beginning, workspace, *_ = steps_in(part("tour", TOUR))
    said = await taken([beginning, workspace, *steps_in(part("steps", EVENTS))], folder)
    assert '"type":"workspace.registered"' in said
    assert "event: export.created\n" in said
    assert said.endswith("event: export.succeeded\n")


async def test_the_tour_can_be_taken_as_written(folder: Path) -> None:
    said = await taken(steps_in(part("tour", TOUR)), folder)
    assert '"name":"Sandbox 1001"' in said
    assert "\nbehind_others\nthe same export\nsucceeded\n" in said
    assert "'run_ms'" in said
    assert "export.succeeded" in said
    assert "}\nsucceeded\n" in said
    digests = re.findall(r"^([0-9a-f]{64})\b", said, re.MULTILINE)
    assert len(digests) == 2
    assert len(set(digests)) == 1
    assert '"resource_type":"task"' in said
    assert "Asana does not support filters for teams" in said
    key, state, items = said.splitlines()[-3:]
    assert re.fullmatch(r"aex_[\w-]+", key)
    assert (state, items) == ("open", "[]")


async def test_a_file_is_held_and_ended_as_written(folder: Path) -> None:
    """After the tour's first steps, which register the workspace."""
    said = await taken([*steps_in(part("tour", TOUR))[:2], *steps_in(part("steps", RETENTION))], folder)
    days, ends, held, gone, state = [line for line in said.splitlines() if line and "{" not in line]
    assert (days, held, gone, state) == ("30", "legal-hold", "artifact-expired", "deleted")
    left = datetime.fromisoformat(ends) - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left < timedelta(days=30)
