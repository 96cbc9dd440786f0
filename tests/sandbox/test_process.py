"""The stand-in as a process, and as an application inside another's tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from app.sandbox import SERVICE_TOKEN, SandboxSettings, WorkspaceSpec, create_sandbox
from app.sandbox.control import SandboxControl
from app.sandbox.process import running_sandbox

from .calls import AsanaCaller, data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"seed": 3, "busy_message": "from the file"}))
    command = [sys.executable, "-m", "app.sandbox", "--port", "0", "--settings", str(settings)]
    command += ["--seed", "4", "--workspace", "31:10", "--workspace", "32", "--run-seconds", "5", "6"]
    command += ["--requests-per-minute", "0", "--time-scale", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("sandbox listening on http://127.0.0.1:")
        with SandboxControl(line.split()[-1]) as sandbox:
            chosen = sandbox.settings()
            caller = AsanaCaller(sandbox.api_url, SERVICE_TOKEN)
            with caller.http:
                gid = data(caller.resource("31"))["gid"]
                sandbox.advance(60)
                assert len(caller.lines(gid)) == 10
        assert list(tmp_path.glob("asana-sandbox-*"))
        process.send_signal(number)
    assert process.returncode == 0
    assert not list(tmp_path.glob("asana-sandbox-*"))
    assert (chosen.seed, chosen.busy_message, chosen.requests_per_minute) == (4, "from the file", None)
    assert chosen.run_seconds == (5.0, 6.0)
    assert {gid: spec.tasks for gid, spec in chosen.workspaces.items()} == {"31": 10, "32": 240}


def test_wrong_settings_are_refused_at_the_start() -> None:
    command = [sys.executable, "-m", "app.sandbox", "--port", "0", "--run-seconds", "9", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "run_seconds" in ended.stderr


def test_a_test_of_yours_can_start_it_and_is_told_when_it_does_not_start() -> None:
    with running_sandbox("--seed", "12") as sandbox:
        assert sandbox.settings().seed == 12
    with pytest.raises(httpx.ConnectError):
        AsanaCaller(sandbox.api_url, SERVICE_TOKEN).graph("10012001")
    with pytest.raises(RuntimeError, match="did not start"), running_sandbox("--no-such-option"):
        pass


async def test_it_can_be_called_without_a_process() -> None:
    settings = SandboxSettings(workspaces={"5": WorkspaceSpec(gid="5")}, time_scale=0)
    app = create_sandbox(settings)
    headers = {"Authorization": f"Bearer {SERVICE_TOKEN}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=headers) as http:
        response = await http.post("/api/1.0/exports/graph", json={"data": {"parent": "52001"}})
        assert response.status_code == 201
        await http.post("/_sandbox/faults", json={"call": "me", "kind": "drop_before"})
        with pytest.raises(ConnectionAbortedError):
            await http.get("/api/1.0/users/me")
    app.state.sandbox.spool.close()
