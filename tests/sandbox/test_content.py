"""What is in the files."""

from typing import Any

import pytest

from app.sandbox.control import SandboxControl

from .calls import AsanaCaller, data


class Exporter:
    """Runs exports to their end."""

    def __init__(self, sandbox: SandboxControl, caller: AsanaCaller) -> None:
        self.sandbox = sandbox
        self.caller = caller

    def resource(self, *items: dict[str, Any], workspace: str = "1001") -> list[dict[str, Any]]:
        return self._lines(data(self.caller.resource(workspace, *items))["gid"])

    def graph(self, parent: str) -> list[dict[str, Any]]:
        return self._lines(data(self.caller.graph(parent))["gid"])

    def tasks(self, **filters: Any) -> list[dict[str, Any]]:
        return self.resource({"resource_type": "task", "filters": filters})

    def _lines(self, gid: str) -> list[dict[str, Any]]:
        self.sandbox.advance(600)
        return self.caller.lines(gid)


@pytest.fixture
def exported(sandbox: SandboxControl, service: AsanaCaller) -> Exporter:
    return Exporter(sandbox, service)


def test_tasks_bring_stories_and_attachments_without_their_urls(exported: Exporter) -> None:
    tasks = exported.resource({"resource_type": "task"})
    assert len(tasks) == len({task["gid"] for task in tasks}) == 240
    first = tasks[0]
    assert first["gid"] == "10017000000001"
    assert first["memberships"][0]["project"]["gid"] == "10012001"
    assert {"assignee", "custom_fields", "followers", "likes", "modified_at", "stories"} <= set(first)
    assert "html_notes" not in first
    attachments = [attachment for task in tasks for attachment in task["attachments"]]
    assert attachments
    assert not any({"download_url", "view_url"} & set(attachment) for attachment in attachments)


def test_teams_bring_their_members_and_messages_their_parents(exported: Exporter) -> None:
    lines = exported.resource({"resource_type": "team"}, {"resource_type": "message"})
    teams = [line for line in lines if line["resource_type"] == "team"]
    messages = [line for line in lines if line["resource_type"] == "message"]
    assert (len(teams), len(messages)) == (3, 40)
    assert all(team["members"] for team in teams)
    assert {message["resource_subtype"] for message in messages} == {"default", "status_update"}
    assert all(message["parents"] and "html_notes" not in message for message in messages)


def test_fields_choose_and_the_gid_stays(exported: Exporter) -> None:
    fields = ["name", "assignee.name", "memberships.(project|section).gid", "html_notes", "no_such_field"]
    task = exported.resource({"resource_type": "task", "fields": fields})[0]
    assert set(task) == {"gid", "name", "assignee", "memberships", "html_notes"}
    assert set(task["assignee"]) == {"gid", "name"}
    assert set(task["memberships"][0]["section"]) == {"gid"}


@pytest.mark.parametrize(
    ("filter_", "holds"),
    [
        ("assignee.any", lambda task: task["assignee"] and task["assignee"]["gid"] == "10015003"),
        ("assigned_by.any", lambda task: task["assigned_by"] and task["assigned_by"]["gid"] == "10015003"),
        ("created_by.any", lambda task: task["created_by"]["gid"] == "10015003"),
        ("followers.any", lambda task: "10015003" in [user["gid"] for user in task["followers"]]),
        ("liked_by.any", lambda task: "10015003" in [like["user"]["gid"] for like in task["likes"]]),
        (
            "commented_on_by.any",
            lambda task: (
                "10015003" in [s["created_by"]["gid"] for s in task["stories"] if s["type"] == "comment"]
            ),
        ),
    ],
)
def test_user_filters_really_filter(exported: Exporter, filter_: str, holds: Any) -> None:
    everything = exported.tasks()
    wanted = [task["gid"] for task in everything if holds(task)]
    assert 0 < len(wanted) < len(everything)
    assert [task["gid"] for task in exported.tasks(**{filter_: ["10015003"]})] == wanted


def test_date_filters_really_filter_in_any_zone(exported: Exporter) -> None:
    after = exported.tasks(**{"modified_at.after": "2026-05-01T02:00:00+02:00"})
    before = exported.tasks(**{"modified_at.before": "2026-05-01T00:00:00.001Z"})
    assert all(task["modified_at"] > "2026-05-01T00:00:00.000Z" for task in after)
    assert len(after) + len(before) == 240
    assert 0 < len(after) < 240


def test_filters_of_one_item_all_have_to_hold(exported: Exporter) -> None:
    both = {"created_at.after": "2025-01-01T00:00:00Z", "created_by.any": ["10015003", "10015004"]}
    tasks = exported.tasks(**both)
    assert tasks
    assert all(t["created_at"] > "2025" and t["created_by"]["gid"] in both["created_by.any"] for t in tasks)


def test_a_future_date_gives_an_empty_file(exported: Exporter) -> None:
    assert exported.tasks(**{"modified_at.after": "2030-01-01T00:00:00Z"}) == []


def test_bounds_can_include_the_instant(sandbox: SandboxControl, exported: Exporter) -> None:
    instant = exported.tasks()[0]["modified_at"]
    exactly = {"modified_at.after": instant, "modified_at.before": instant}
    assert exported.tasks(**exactly) == []
    sandbox.patch(inclusive_bounds=True)
    assert len(exported.tasks(**exactly)) == 1


def test_overlapping_items_repeat_objects(exported: Exporter) -> None:
    tasks = exported.resource({"resource_type": "task"}, {"resource_type": "task"})
    assert len(tasks) == 2 * len({task["gid"] for task in tasks})


def test_some_tasks_change_as_time_passes_and_an_increment_has_just_those(
    sandbox: SandboxControl, exported: Exporter
) -> None:
    before = {task["gid"]: task for task in exported.tasks()}
    watermark = sandbox.clock().now.isoformat()
    sandbox.advance(7 * 86400)
    increment = exported.tasks(**{"modified_at.after": watermark})
    after = {task["gid"]: task for task in exported.tasks()}
    changed = {gid for gid, task in after.items() if task != before[gid]}
    assert 0 < len(increment) < len(after)
    assert changed <= {task["gid"] for task in increment}


def test_the_same_seed_gives_the_same_file_and_another_gives_another(
    sandbox: SandboxControl, exported: Exporter
) -> None:
    first = exported.tasks()
    sandbox.reset()
    assert exported.tasks() == first
    sandbox.patch(seed=8)
    assert exported.tasks() != first


def test_sizes_can_be_set_for_a_workspace_and_for_a_parent(
    sandbox: SandboxControl, exported: Exporter
) -> None:
    sandbox.put_workspace("2001", tasks=1500, messages=0, parents={"20012001": 7, "20011001": 11})
    assert len(exported.resource({"resource_type": "task"}, workspace="2001")) == 1500
    for parent, tasks in (("20012001", 7), ("20011001", 11), ("20012002", 250)):
        lines = exported.graph(parent)
        assert sum(line["resource_type"] == "task" for line in lines) == tasks


def test_a_graph_has_the_objects_below_its_parent(exported: Exporter) -> None:
    kinds = {line["resource_type"] for line in exported.graph("10013001")}
    assert kinds == {
        "portfolio",
        "project",
        "section",
        "task",
        "portfolio_to_portfolio",
        "project_to_portfolio",
        "allocation",
        "time_tracking_entry",
    }
    project = exported.graph("10012002")
    assert [line["gid"] for line in project if line["resource_type"] == "project"] == ["10012002"]
    tasks = [line for line in project if line["resource_type"] == "task"]
    assert len(tasks) == 40
    assert {task["projects"][0]["gid"] for task in tasks} == {"10012002"}
    gids = {task["gid"] for task in tasks}
    assert {task["parent"]["gid"] for task in tasks if task["parent"]} <= gids


def test_graph_lines_can_be_flat(sandbox: SandboxControl, exported: Exporter) -> None:
    sandbox.patch(flat_graph_lines=True)
    task = next(line for line in exported.graph("10012001") if line["resource_type"] == "task")
    assert task["created_by.gid"].startswith("10015")
    assert "created_by" not in task


def test_a_token_that_sees_less_gets_less(
    sandbox: SandboxControl, exported: Exporter, user: AsanaCaller
) -> None:
    everything = exported.graph("10012001")
    trimmed = Exporter(sandbox, user).graph("10012001")
    assert 0 < len(trimmed) < len(everything)
    assert {line["gid"] for line in trimmed} < {line["gid"] for line in everything}
