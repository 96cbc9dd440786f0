"""What Asana would refuse is refused at once, with all faults together."""

from typing import Any

import httpx
import pytest

from tests.api.conftest import Api


def resource(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"workspace": "1001", "export_request_parameters": list(items), **more}


def filtered(**filters: Any) -> dict[str, Any]:
    named = {name.replace("__", "."): value for name, value in filters.items()}
    return resource({"resource_type": "task", "filters": named})


FILTER = "/export_request_parameters/0/filters"
ITEM = "/export_request_parameters/0"
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing at all": ({}, ["/export_request_parameters", "/workspace"]),
    "no items": (resource(), ["/export_request_parameters"]),
    "unknown type": (resource({"resource_type": "project"}), [f"{ITEM}/resource_type"]),
    "no type": (resource({}), [f"{ITEM}/resource_type"]),
    "item is no object": (resource("task"), [ITEM]),  # type: ignore[arg-type]
    "bad gid": (resource({"resource_type": "task"}) | {"workspace": "abc"}, ["/workspace"]),
    "gid as a number": (resource({"resource_type": "task"}) | {"workspace": 1001}, ["/workspace"]),
    "gid of other digits": (resource({"resource_type": "task"}) | {"workspace": "١٢٣"}, ["/workspace"]),
    "gid with a line break": (resource({"resource_type": "task"}) | {"workspace": "1001\n"}, ["/workspace"]),
    "filter on teams": (
        resource({"resource_type": "team", "filters": {"created_at.after": "2026-01-01T00:00:00Z"}}),
        [f"{FILTER}/created_at.after"],
    ),
    "assignee of messages": (
        resource({"resource_type": "message", "filters": {"assignee.any": ["1"], "assigned_by.any": ["2"]}}),
        [f"{FILTER}/assigned_by.any", f"{FILTER}/assignee.any"],
    ),
    "unknown filter": (filtered(project__any=["1"]), [f"{FILTER}/project.any"]),
    "python's name of a filter": (filtered(assignee_any=["1"]), [f"{FILTER}/assignee_any"]),
    "empty list of people": (filtered(assignee__any=[]), [f"{FILTER}/assignee.any"]),
    "person without digits": (filtered(followers__any=["1", "me"]), [f"{FILTER}/followers.any/1"]),
    "no list of people": (filtered(followers__any="1"), [f"{FILTER}/followers.any"]),
    "after later than before": (
        filtered(created_at__after="2026-02-01T00:00:00Z", created_at__before="2026-01-01T00:00:00Z"),
        [f"{FILTER}/created_at.after"],
    ),
    "date without a time zone": (
        filtered(modified_at__after="2026-01-01T00:00:00"),
        [f"{FILTER}/modified_at.after"],
    ),
    "no date": (filtered(modified_at__before="yesterday"), [f"{FILTER}/modified_at.before"]),
    "date out of range": (
        filtered(modified_at__before="0001-01-01T00:00:00+23:59"),
        [f"{FILTER}/modified_at.before"],
    ),
    "date as a number": (filtered(modified_at__before=1767225600), [f"{FILTER}/modified_at.before"]),
    "no fields": (resource({"resource_type": "task", "fields": []}), [f"{ITEM}/fields"]),
    "field that is no path": (resource({"resource_type": "task", "fields": ["a b"]}), [f"{ITEM}/fields/0"]),
    "unknown priority": (resource({"resource_type": "task"}, priority="asap"), ["/priority"]),
    "unknown key": (resource({"resource_type": "task"}, limit=10), ["/limit"]),
    "label with a colon": (resource({"resource_type": "task"}, labels={"a:b": "c"}), ["/labels/a:b"]),
    "label with a null": (resource({"resource_type": "task"}, labels={"a": "\x00"}), ["/labels/a"]),
    "everything": (
        {
            "workspace": "x",
            "export_request_parameters": [
                {"resource_type": "team", "filters": {"nonsense": 1, "assignee.any": []}, "fields": []},
                {"resource_type": "epic"},
            ],
            "priority": 1,
            "extra": None,
        },
        [
            f"{ITEM}/fields",
            f"{FILTER}/assignee.any",
            f"{FILTER}/nonsense",
            "/export_request_parameters/1/resource_type",
            "/extra",
            "/priority",
            "/workspace",
        ],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_asana_would_refuse(api: Api, caller: httpx.AsyncClient, name: str) -> None:
    body, pointers = REFUSED[name]
    response = await caller.post("/v1/exports/resource", json=body)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "validation-failed")
    assert sorted({fault["pointer"] for fault in problem["errors"]}) == sorted(pointers)
    assert all(fault["detail"] for fault in problem["errors"])
    assert (await caller.get("/v1/exports")).json()["items"] == []


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "gid as a number"])
async def test_it_is_refused_where_asana_is_spoken_too(caller: httpx.AsyncClient, name: str) -> None:
    body, pointers = REFUSED[name]
    response = await caller.post("/api/1.0/exports/resource", json={"data": body})
    assert response.status_code == 400
    fields = {error["message"].split(": ")[0] for error in response.json()["errors"]}
    assert fields == {pointer.removeprefix("/").replace("/", ".") for pointer in pointers}
    assert (await caller.get("/v1/exports")).json()["items"] == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/parent", "/workspace"]),
        ({"workspace": "1001", "parent": ""}, ["/parent"]),
        ({"workspace": "1001", "parent": "1/2"}, ["/parent"]),
        (
            {"workspace": "1001", "parent": "1", "export_request_parameters": []},
            ["/export_request_parameters"],
        ),
    ],
)
async def test_a_graph_request_that_asana_would_refuse(
    caller: httpx.AsyncClient, body: dict[str, Any], pointers: list[str]
) -> None:
    problem = (await caller.post("/v1/exports/graph", json=body)).json()
    assert [fault["pointer"] for fault in problem["errors"]] == pointers


async def test_empty_filters_are_none(caller: httpx.AsyncClient) -> None:
    body = resource({"resource_type": "team", "filters": {}})
    response = await caller.post("/v1/exports/resource", json=body)
    assert response.json()["request"] == resource({"resource_type": "team"})


async def test_every_filter_of_asana_is_taken(caller: httpx.AsyncClient) -> None:
    people = {
        f"{name}.any": ["1", "2"]
        for name in ("assigned_by", "assignee", "commented_on_by", "created_by", "followers", "liked_by")
    }
    moments = {
        "created_at.after": "2026-01-01T00:00:00Z",
        "created_at.before": "2026-02-01T00:00:00Z",
        "modified_at.after": "2026-01-01T00:00:00Z",
        "modified_at.before": "2026-02-01T00:00:00Z",
    }
    items: list[dict[str, Any]] = [
        {
            "resource_type": "task",
            "filters": people | moments,
            "fields": ["gid", "memberships.(project|section).gid"],
        },
        {"resource_type": "message", "filters": {"liked_by.any": ["1"]} | moments},
        {"resource_type": "team"},
    ]
    response = await caller.post("/v1/exports/resource", json=resource(*items))
    assert response.status_code == 202, response.text
    assert response.json()["request"] == resource(*items)
