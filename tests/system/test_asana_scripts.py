"""A script for Asana, as docs/from-the-asana-sdk.md shows it, as a process: against Asana and against us."""

import asyncio
import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

import tests
from app.exports.models import Export
from app.sandbox.faults import Call
from tests.processes import BIN, said
from tests.system.conftest import Service
from tests.system.exports import PARENTS, posts

ROOT = Path(tests.__file__).parents[1]
PAGE = (ROOT / "docs" / "from-the-asana-sdk.md").read_text()
TEAMS: dict[str, Any] = {"workspace": "1001", "export_request_parameters": [{"resource_type": "team"}]}
SCRIPTS = 10
# Of the development lock, and beside it.
SDKS = {"newest": "", "5.2.2": str(BIN.parent / "sdk")}


TELL_VERSION = "import asana; print(asana.ApiClient().user_agent.split('/')[1])"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    found = re.search(r"<!-- script -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert found
    file = tmp_path / "script.py"
    file.write_text(found[1])
    return file


@pytest.fixture(params=SDKS)
async def sdk(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a program that uses this version."""
    env = {"PYTHONPATH": SDKS[request.param], "NO_PROXY": "127.0.0.1"}
    _, version = await said(sys.executable, "-c", TELL_VERSION, cwd=tmp_path, env=env)
    assert version.strip() == (request.param if SDKS[request.param] else metadata.version("asana"))
    return env


async def told(script: Path, sdk: dict[str, str], host: str, token: str, data: dict[str, Any]) -> list[str]:
    """What the script prints."""
    env = {"ASANA_HOST": host, "ASANA_TOKEN": token, **sdk}
    code, output = await said(sys.executable, script, json.dumps(data), cwd=script.parent, env=env)
    assert code == 0, output
    return output.split()


@pytest.mark.parametrize("data", [*({"parent": parent} for parent in PARENTS.values()), TEAMS])
async def test_a_script_for_asana_needs_another_host_and_token(
    service: Service, script: Path, sdk: dict[str, str], data: dict[str, Any]
) -> None:
    at_asana = await told(script, sdk, service.sandbox.api_url, "sandbox-service-token", data)
    service.worker()
    here = f"{await service.api().address()}/api/1.0"
    # As some write it.
    assert at_asana == await told(script, sdk, f"{here}/", service.tenants["1001"].key, data) != []
    logs = "".join(process.output() for process in (*service.workers, *service.apis))
    assert '"phase": "polling"' in logs
    # Who reads the logs shall not be able to fetch the file.
    assert "signature" not in logs


async def test_of_ten_scripts_at_once_none_is_refused(
    service: Service, script: Path, sdk: dict[str, str]
) -> None:
    """At Asana nine of them would be."""
    service.sandbox.patch(run_seconds=(60, 60))
    service.worker()
    here = f"{await service.api().address()}/api/1.0"
    fields = ["gid", "name", "resource_type"]
    wanted = [
        TEAMS
        | {"export_request_parameters": [{"resource_type": "team", "fields": [*fields, f"unknown{number}"]}]}
        for number in range(SCRIPTS)
    ]
    key = service.tenants["1001"].key
    printed = await asyncio.gather(*(told(script, sdk, here, key, each) for each in wanted))
    assert len({tuple(lines) for lines in printed}) == 1
    assert posts(service, Call.RESOURCE) == [201] * SCRIPTS
    assert service.sandbox.stats().workspaces["1001"].max_resource_in_progress == 1
    async with service.sessions() as session:
        assert len((await session.scalars(select(Export))).all()) == SCRIPTS


async def test_what_holds_for_the_newest_sdk_holds_for_an_older_one(tmp_path: Path) -> None:
    """Errors, retries, `async_req` and all."""
    env = {"PYTHONPATH": SDKS["5.2.2"]}
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'theirs'}")
    code, output = await said(BIN / "pytest", *options, "tests/api/test_asana_sdk.py", cwd=ROOT, env=env)
    assert code == 0, output
