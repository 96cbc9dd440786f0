"""`asana-exports` as its users run it, against a service of real processes."""

import asyncio
import gzip
import json
import signal
from pathlib import Path

import httpx
import pytest

from app.access.clients import ClientSpec, GrantSpec, create_client
from app.access.models import Scope
from app.events.log import Cause
from asana_exports_client.cli.exits import Exit
from tests.client.relay import relay
from tests.client.shell import Shell
from tests.processes import until
from tests.servers import Request
from tests.system.conftest import Service

FIELDS = ("--fields", "gid,name,resource_type")
TASKS = ("--workspace", "1001", "--type", "task", *FIELDS)


@pytest.fixture
def shell(api: str, service: Service, tmp_path: Path) -> Shell:
    folder = tmp_path / "home"
    folder.mkdir()
    env = {"ASANA_EXPORTS_URL": api, "ASANA_EXPORTS_KEY": service.tenants["1001"].key}
    return Shell(folder, env)


async def key_with(service: Service, *scopes: Scope) -> str:
    spec = ClientSpec(name="-".join(scopes).replace(":", "-"), scopes=scopes, grants=(GrantSpec(),))
    async with service.sessions.begin() as session:
        return (await create_client(session, spec, Cause("test")))[1]


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


async def test_the_whole_way_in_a_pipe(shell: Shell) -> None:
    done = await shell.run(
        "run", *TASKS, "--modified-after", "2000-01-01", "--priority", "high", "--label", "team=bi",
        "--queue-ttl", "1h", "--deliver-by", "2h", "--max-age", "0", "-o", "tasks.jsonl.gz",
    )  # fmt: skip
    assert (done.code, done.out) == (Exit.OK, "tasks.jsonl.gz\n")
    found = records(shell.folder / "tasks.jsonl.gz")
    assert f"{len(found)} lines ({len(found)} task)" in done.err
    assert "\x1b" not in done.err
    assert "archiving" in done.err
    [listed] = (await shell.run("ls", "--label", "team=bi", "--json")).lines()
    assert (listed["status"], listed["priority"], listed["labels"]) == ("succeeded", "high", {"team": "bi"})
    assert listed["deliver_by"]
    [item] = listed["request"]["export_request_parameters"]
    assert item["filters"] == {"modified_at.after": "2000-01-01T00:00:00Z"}
    export = listed["id"]

    in_columns = (await shell.run("ls")).out.splitlines()
    assert [line.split("\t")[:4] for line in in_columns] == [[export, "succeeded", "1001", "task"]]
    facts = dict(line.split("\t") for line in (await shell.run("show", export)).out.splitlines())
    assert (facts["id"], facts["status"], facts["sha256"]) == (
        export,
        "succeeded",
        listed["artifact"]["sha256"],
    )
    assert (await shell.run("show", export, "--json")).json()["id"] == export
    story = (await shell.run("story", export)).out.splitlines()
    assert [line.split("\t")[1] for line in (story[0], story[-1])] == ["export.created", "export.succeeded"]

    out = await shell.run("get", export, "-o", "-")
    assert [json.loads(line) for line in out.out.splitlines()] == found
    again = (await shell.run("get", export, "--json")).json()
    assert again["export"]["id"] == export
    assert again["files"] == [f"{export}.jsonl.gz"]
    parquet = await shell.run("get", export, "--format", "parquet")
    assert parquet.out == f"{export}.task.parquet\n"
    assert (shell.folder / f"{export}.task.parquet").read_bytes()[:4] == b"PAR1"

    made = (await shell.run("retry", export)).out.strip()
    ended = await shell.run("watch", made, "--json")
    assert (ended.json()["status"], ended.json()["retry_of"]) == ("succeeded", export)


async def test_graphs_files_of_filters_and_plans(shell: Shell) -> None:
    graph = await shell.run("run", "-w", "1001", "--parent", "10012001", "-o", "graph.gz", "--json")
    assert graph.json()["export"]["kind"] == "graph"
    items = [
        {"resource_type": "task", "filters": {"modified_at.after": "2000-01-01T00:00:00Z"}},
        {"resource_type": "team", "fields": ["gid", "resource_type"]},
    ]
    both = await shell.run("run", "-w", "1001", "--parameters", "-", "--json", stdin=json.dumps(items))
    assert both.json()["export"]["request"]["export_request_parameters"] == items
    assert set(both.json()["export"]["artifact"]["by_type"]) == {"task", "team"}
    several = await shell.run("get", both.json()["export"]["id"], "--format", "csv", "-o", "one")
    assert several.code == Exit.USAGE
    assert "name a folder" in several.err
    planned = await shell.run("run", *TASKS, "--dry-run", "--json")
    assert planned.json()["status"] == "queued"
    assert len((await shell.run("ls", "--json")).lines()) == 2


ENDS: list[tuple[list[str], Exit, str]] = [
    (["run", "-w", "1001", "--type", "team", "--assignee", "12"], Exit.REFUSED, "validation-failed"),
    (["run", "-w", "4040"], Exit.NOT_FOUND, "not-found"),
    (["show", "exp_01997d3c5b7d7e3f8a1b2c3d4e5f6071"], Exit.NOT_FOUND, "not-found"),
    (["run", "-w", "1001", "--parent", "404404"], Exit.FAILED, "parent-not-in-workspace"),
    (["run", "-w", "1001", "--parent", "1", "--type", "task"], Exit.USAGE, "A graph export has neither"),
    (["run", "-w", "1001", "--parameters", "nowhere"], Exit.USAGE, "nowhere: No such file"),
    (["run", "-w", "1001", "--modified-after", "soon"], Exit.USAGE, "'soon' is no moment"),
    (["run", "-w", "1001", "--max-age", "-1"], Exit.USAGE, "'-1' is no time"),
    (["run", "-w", "1001", "--label", "bi"], Exit.USAGE, "'bi' is no label"),
    (["run", "-w", "1001", "-o", "no/where.gz"], Exit.USAGE, "There is no folder no"),
    (["run", "-w", "1001", "-o", "."], Exit.USAGE, "is a folder"),
    (["run"], Exit.USAGE, "--workspace"),
    (["lost"], Exit.USAGE, "No such command"),
    (["ls", "--profile", "lost"], Exit.NOT_AUTHORISED, "no profile 'lost'"),
    (["ls", "--url", "http://127.0.0.1:9"], Exit.UNREACHABLE, "cannot be reached"),
]


async def test_each_end_has_its_code_and_says_what_to_do(shell: Shell) -> None:
    for words, code, says in ENDS:
        said = await shell.run(*words)
        assert (words, said.code, said.out) == (words, code, "")
        assert says in said.err


async def test_errors_are_json_too(shell: Shell, service: Service) -> None:
    refused = await shell.run("run", "-w", "1001", "--type", "team", "--assignee", "12", "--json")
    assert (refused.code, refused.out) == (Exit.REFUSED, "")
    error = json.loads(refused.err)["error"]
    assert (error["code"], error["exit_code"]) == ("validation-failed", Exit.REFUSED)
    assert [fault["pointer"] for fault in error["errors"]] == [
        "/export_request_parameters/0/filters/assignee.any"
    ]
    assert error["request_id"].startswith("req_")
    assert "Mend" in error["advice"]
    away = await shell.run("ls", "--json", "--url", "http://127.0.0.1:9")
    assert (away.code, away.out) == (Exit.UNREACHABLE, "")
    assert {*json.loads(away.err)["error"]} == {"message", "advice", "exit_code"}


async def test_a_misspelt_filter_is_not_left_out(shell: Shell) -> None:
    items = [{"resource_type": "task", "filters": {"modified.after": "2000-01-01T00:00:00Z"}}]
    said = await shell.run("run", "-w", "1001", "--parameters", "-", stdin=json.dumps(items))
    assert said.code == Exit.USAGE
    assert "modified.after" in said.err
    assert (await shell.run("ls", "--json")).lines() == []


async def test_keys_that_open_nothing_or_not_enough_are_told(shell: Shell, service: Service) -> None:
    shell.env["ASANA_EXPORTS_KEY"] = "aex_wrong"
    said = await shell.run("ls")
    assert (said.code, "unauthenticated" in said.err) == (Exit.NOT_AUTHORISED, True)
    shell.env["ASANA_EXPORTS_KEY"] = await key_with(service, Scope.EXPORTS_READ)
    said = await shell.run("clients", "ls")
    assert (said.code, "scope-missing" in said.err) == (Exit.NOT_AUTHORISED, True)
    status = await shell.run("status", "--json")
    assert (status.code, status.json()["attention"]) == (Exit.OK, None)


async def test_what_is_no_service_is_told(shell: Shell) -> None:
    def other(_: Request, __: httpx.Response, ___: int) -> httpx.Response:
        return httpx.Response(200, text="<html>Welcome</html>")

    async with relay(shell.env["ASANA_EXPORTS_URL"], other) as between:
        said = await shell.run("ls", "--url", between.url)
    assert (said.code, "no answer of the service" in said.err) == (Exit.UNREACHABLE, True)


async def test_a_damaged_file_is_not_kept(shell: Shell) -> None:
    export = (await shell.run("run", *TASKS, "-o", "good", "--json")).json()["export"]

    def changed(request: Request, told: httpx.Response, _: int) -> httpx.Response:
        if "/content" not in request.path:
            return told
        return httpx.Response(told.status_code, content=bytes(len(told.content)))

    async with relay(shell.env["ASANA_EXPORTS_URL"], changed) as between:
        said = await shell.run("get", export["id"], "-o", "bad", "--url", between.url)
        lines = await shell.run("get", export["id"], "-o", "-", "--url", between.url)
    assert (said.code, said.out, lines.code) == (Exit.DAMAGED, "", Exit.DAMAGED)
    assert [path.name for path in shell.folder.iterdir()] == ["good"]


async def test_a_download_goes_on_where_an_earlier_one_was_cut(shell: Shell) -> None:
    export = (await shell.run("run", *TASKS, "-o", "whole", "--json")).json()["export"]
    whole = (shell.folder / "whole").read_bytes()
    (shell.folder / "again.part").write_bytes(whole[:100])
    async with relay(shell.env["ASANA_EXPORTS_URL"], lambda _, told, __: told) as between:
        await shell.run("get", export["id"], "-o", "again", "--url", between.url)
        assert between.requests[-1].headers["range"] == "bytes=100-"
    assert (shell.folder / "again").read_bytes() == whole


@pytest.mark.parametrize("cancels", [False, True])
async def test_ctrl_c_leaves_the_export_unless_asked_otherwise(
    shell: Shell, service: Service, *, cancels: bool
) -> None:
    service.sandbox.hold_slot("1001")
    options = ["--cancel-on-interrupt"] if cancels else []
    async with shell.running("run", *TASKS, "-o", "tasks.gz", *options) as process:
        async with asyncio.timeout(120):
            assert process.stderr
            while "slot busy" not in (line := (await process.stderr.readline()).decode()):
                pass
            export = line.split()[0]
            process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    assert (process.returncode, out) == (Exit.INTERRUPTED, b"")
    left = (await shell.run("show", export, "--json")).json()["status"]
    service.sandbox.release_slot("1001")
    if cancels:
        assert left == "canceled"
        assert (await shell.run("watch", export)).code == Exit.CANCELED
        assert (await shell.run("get", export)).code == Exit.CANCELED
        assert (await shell.run("cancel", export)).code == Exit.OK
    else:
        assert left == "queued"
        told = next(line for line in err.decode().splitlines() if line.startswith("  asana-exports get"))
        assert told.split()[1:] == ["get", export, "-o", "tasks.gz"]
        assert (await shell.run(*told.split()[1:])).out == "tasks.gz\n"
        assert records(shell.folder / "tasks.gz")


async def test_one_may_wait_for_so_long_only_or_not_at_all(shell: Shell, service: Service) -> None:
    service.sandbox.hold_slot("1001")
    assert (await shell.run("get", "exp_1", "-o", ".")).code == Exit.USAGE
    late = await shell.run("run", *TASKS, "--timeout", "1s")
    assert late.code == Exit.TIMED_OUT
    assert "asana-exports watch exp_" in late.err
    asked = await shell.run("run", *TASKS, "--no-wait", "--idempotency-key", "once")
    assert asked.out.startswith("exp_")
    assert (await shell.run("run", *TASKS, "--no-wait", "--idempotency-key", "once")).out == asked.out
    canceled = await shell.run("cancel", asked.out.strip(), "--json")
    assert canceled.json()["status"] == "canceled"
    service.sandbox.release_slot("1001")


async def test_on_a_terminal_phases_and_bars_are_seen(shell: Shell, service: Service) -> None:
    service.sandbox.hold_slot("1001")
    with shell.on_terminal("run", *TASKS, "-o", "tasks.gz") as terminal:
        await terminal.says("upstream slot busy")
        service.sandbox.release_slot("1001")
        assert await terminal.ended() == Exit.OK
        assert "✓ queued" in terminal.shown
        assert "✓ running" in terminal.shown
        assert "━━━" in terminal.shown
        assert "verified" in terminal.shown
        assert "\x1b[32m" in terminal.raw
    with shell.on_terminal("ls") as terminal:
        assert await terminal.ended() == Exit.OK
        first, second = terminal.shown.splitlines()
        assert first.split() == ["ID", "STATUS", "WORKSPACE", "CREATED"]
        assert "✓ succeeded" in second
        assert max(map(len, (first, second))) <= 80
    shell.env["NO_COLOR"] = "1"
    with shell.on_terminal("ls", columns=140) as terminal:
        assert await terminal.ended() == Exit.OK
        assert "LABELS" in terminal.shown
        assert "\x1b[3" not in terminal.raw


async def test_ctrl_c_on_a_terminal_says_how_to_go_on(shell: Shell, service: Service) -> None:
    service.sandbox.hold_slot("1001")
    with shell.on_terminal("run", *TASKS) as terminal:
        await terminal.says("upstream slot busy")
        terminal.interrupt()
        assert await terminal.ended() == Exit.INTERRUPTED
        assert "asana-exports get exp_" in terminal.shown
    service.sandbox.release_slot("1001")


async def test_events_are_told_and_followed(shell: Shell) -> None:
    async with shell.running("events", "-f", "--json", "--type", "export.succeeded", "-n", "1") as process:
        # What happens before it follows is not told: so ask until something was.
        async with asyncio.timeout(300):
            ended = asyncio.create_task(process.communicate())
            while not ended.done():
                await shell.run("run", *TASKS, "-o", "tasks.gz")
            out, _ = await ended
    assert process.returncode == Exit.OK
    event = json.loads(out)
    assert event["type"] == "export.succeeded"
    before = (await shell.run("events", "--export", event["data"]["id"])).out.splitlines()
    assert [line.split("\t")[1] for line in (before[0], before[-1])] == ["export.created", "export.succeeded"]
    after = await shell.run("events", "--after", event["cursor"], "--export", event["data"]["id"], "--json")
    assert (after.code, after.lines()) == (Exit.OK, [])


async def test_lanes_are_held_and_let_go(shell: Shell, service: Service) -> None:
    assert len((await shell.run("lanes", "--json")).lines()) == len(service.tenants)
    paused = await shell.run("pause", "1001", "--note", "holidays", "--json")
    assert paused.json()["state"] == "paused"
    export = (await shell.run("run", *TASKS, "--no-wait")).out.strip()
    assert "state\tpaused" in (await shell.run("lanes", "1001")).out
    assert (await shell.run("drain", "1001")).code == Exit.OK
    refused = await shell.run("run", *TASKS)
    assert (refused.code, "lane-draining" in refused.err) in {(Exit.REFUSED, True), (Exit.UNREACHABLE, True)}
    assert "is open" in (await shell.run("resume", "1001")).err
    assert (await shell.run("watch", export)).code == Exit.OK


async def test_a_failure_that_may_pass_says_how_to_ask_again(shell: Shell, service: Service) -> None:
    service.sandbox.patch(time_scale=0)
    async with shell.running("run", *TASKS, "--json") as process:
        ended = asyncio.create_task(process.communicate())

        async def fails() -> tuple[bytes, bytes] | None:
            for job in service.sandbox.jobs("1001"):
                if job.status in {"not_started", "in_progress"}:
                    service.sandbox.end_job(job.gid, "failed")
            return ended.result() if ended.done() else None

        out, err = await until(fails, 120, lambda: "an export that has failed")
    export = json.loads(out)
    assert (process.returncode, export["error"]["code"]) == (Exit.FAILED, "upstream-failed")
    assert f"asana-exports retry {export['id']}" in err.decode()
