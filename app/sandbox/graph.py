"""The objects below a goal, project, portfolio or team, in the order of a graph export."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.sandbox.cast import Cast, Compact, compact
from app.sandbox.clock import timestamp
from app.sandbox.content import DAY, EPOCH, OPT_IN, Line, task
from app.sandbox.dice import roll
from app.sandbox.world import Kind, Parent, gid_of

FOUNDED = timestamp(EPOCH - 3 * 365 * DAY)


def graph_lines(cast: Cast, parent: Parent, now: float) -> Iterator[Line]:
    """Portfolios, projects, sections and tasks below the parent, with the relations between them."""
    portfolios = _portfolios(parent)
    for number in portfolios:
        yield _portfolio(cast, number)
    for number in portfolios[1:]:
        yield _relation("portfolio_to_portfolio", _named(cast, 1), _named(cast, number), number)
    for project, tasks in parent.tasks_by_project().items():
        yield from _project_lines(cast, project, portfolios, now)
        yield from _task_lines(cast, project, tasks, now)


def _project_lines(cast: Cast, number: int, portfolios: list[int], now: float) -> Iterator[Line]:
    project, holder = cast.projects[number - 1], (number - 1) % cast.spec.portfolios + 1
    yield _project(cast, number, now)
    if holder in portfolios:
        yield _relation("project_to_portfolio", _named(cast, holder), project, number)
    for section in cast.sections[number - 1]:
        yield {**section, "created_at": FOUNDED, "project": project}
    yield _allocation(cast, number)


def _task_lines(cast: Cast, project: int, tasks: int, now: float) -> Iterator[Line]:
    for place in range(tasks):
        line = task(cast, project + place * cast.spec.projects, now)
        if line is None:
            continue
        for field in (*OPT_IN, "stories"):
            del line[field]
        yield line
        if place % 10 == 9:
            yield _time_entry(line)


def _portfolios(parent: Parent) -> list[int]:
    if parent.kind is not Kind.PORTFOLIO:
        return []
    return list(range(1, parent.spec.portfolios + 1)) if parent.number == 1 else [parent.number]


def _named(cast: Cast, portfolio: int) -> Compact:
    return compact("portfolio", gid_of(cast.spec.gid, Kind.PORTFOLIO, portfolio), f"Portfolio {portfolio}")


def _portfolio(cast: Cast, number: int) -> Line:
    bits = roll(cast.seed, 3, number)
    return {
        **_named(cast, number),
        "color": "light-green",
        "created_at": FOUNDED,
        "created_by": cast.user(bits),
        "owner": cast.user(bits >> 8),
        "workspace": cast.workspace,
    }


def _project(cast: Cast, number: int, now: float) -> Line:
    bits = roll(cast.seed, 2, number)
    return {
        **cast.projects[number - 1],
        "archived": False,
        "completed": False,
        "created_at": FOUNDED,
        "created_by": cast.user(bits),
        "current_status_update": {
            "gid": f"{cast.projects[number - 1]['gid']}4",
            "resource_type": "status_update",
            "status_type": ("on_track", "at_risk", "off_track")[bits % 3],
            "title": "This week",
        },
        "modified_at": timestamp(min(now, EPOCH)),
        "notes": "What we want to have done, and by when.",
        "owner": cast.user(bits >> 8),
        "team": cast.teams[(number - 1) % len(cast.teams)],
        "workspace": cast.workspace,
    }


def _relation(resource_type: str, whole: Compact, part: Compact, number: int) -> Line:
    return {
        "gid": f"{whole['gid']}0{number:03d}",
        "resource_type": resource_type,
        "portfolio": whole,
        part["resource_type"] if resource_type == "project_to_portfolio" else "child_portfolio": part,
    }


def _allocation(cast: Cast, project: int) -> Line:
    return {
        "gid": f"{cast.projects[project - 1]['gid']}5",
        "resource_type": "allocation",
        "assignee": cast.user(project),
        "parent": cast.projects[project - 1],
        "start_date": "2026-01-05",
        "end_date": "2026-02-06",
        "effort": {"type": "hours", "value": 20},
    }


def _time_entry(line: Line) -> Line:
    return {
        "gid": f"{line['gid']}6",
        "resource_type": "time_tracking_entry",
        "created_by": line["created_by"],
        "duration_minutes": 45,
        "entered_on": line["created_at"][:10],
        "task": {"gid": line["gid"], "resource_type": "task"},
    }


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The object with dotted keys instead of objects inside it."""
    flattened: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flattened |= flat(item, f"{prefix}{key}.")
        else:
            flattened[prefix + key] = item
    return flattened
