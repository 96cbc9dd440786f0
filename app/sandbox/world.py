"""Which objects exist, and their gids, which can be worked out by hand.

Inside workspace W, counting from 001: team `W1001`, project `W2001`, portfolio `W3001`, goal `W4001`, user
`W5001`. So in workspace 1001 the first project is 10012001. Tasks and messages have nine digits, for example
`W7000000001` and `W8000000001`. Projects are dealt out to teams, to portfolios and to goals in turn, and so
are tasks to projects; the first portfolio also holds the other portfolios.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.sandbox.settings import WorkspaceSpec


class Kind(StrEnum):
    """What a gid stands for; the value is the digit behind the workspace's gid."""

    TEAM = "1"
    PROJECT = "2"
    PORTFOLIO = "3"
    GOAL = "4"
    USER = "5"
    TASK = "7"
    MESSAGE = "8"


def gid_of(workspace: str, kind: Kind, number: int) -> str:
    """The gid of the number-th object of a kind, counting from one."""
    width = 9 if kind in (Kind.TASK, Kind.MESSAGE) else 3
    return f"{workspace}{kind}{number:0{width}d}"


@dataclass(frozen=True)
class Parent:
    """What a graph export starts from."""

    spec: WorkspaceSpec
    kind: Kind
    number: int

    @property
    def gid(self) -> str:
        """The parent's gid."""
        return gid_of(self.spec.gid, self.kind, self.number)

    def projects(self) -> list[int]:
        """The numbers of the projects below it."""
        everything = range(1, self.spec.projects + 1)
        if self.kind is Kind.PROJECT:
            return [self.number]
        if self.kind is Kind.PORTFOLIO and self.number == 1:
            return list(everything)
        siblings = parent_counts(self.spec)[self.kind]
        return [project for project in everything if (project - 1) % siblings == self.number - 1]

    def tasks(self) -> int:
        """How many tasks are below it."""
        return sum(self.tasks_by_project().values())

    def tasks_by_project(self) -> dict[int, int]:
        """How many tasks each project below it has, in the order of the export."""
        projects = self.projects()
        wanted = self.spec.parents.get(self.gid)
        if wanted is None or not projects:
            return {project: tasks_in_project(self.spec, project) for project in projects}
        share, rest = divmod(wanted, len(projects))
        return {project: share + (place < rest) for place, project in enumerate(projects)}


def parent_counts(spec: WorkspaceSpec) -> dict[Kind, int]:
    """The kinds of parents a graph export may start from, and how many of each the workspace has."""
    return {
        Kind.TEAM: spec.teams,
        Kind.PROJECT: spec.projects,
        Kind.PORTFOLIO: spec.portfolios,
        Kind.GOAL: spec.goals,
    }


def tasks_in_project(spec: WorkspaceSpec, project: int) -> int:
    """The project's tasks: its share of the workspace's, unless a number was set."""
    share = len(range(project, spec.tasks + 1, spec.projects))
    return spec.parents.get(gid_of(spec.gid, Kind.PROJECT, project), share)


def find_parent(workspaces: Mapping[str, WorkspaceSpec], gid: str) -> Parent | None:
    """The team, project, portfolio or goal with this gid, if there is one."""
    spec, place = workspaces.get(gid[:-4]), gid[-4:]
    if spec is None:
        return None
    for kind, count in parent_counts(spec).items():
        if place[0] == kind and 1 <= int(place[1:]) <= count:
            return Parent(spec, kind, int(place[1:]))
    return None


def is_no_parent(workspaces: Mapping[str, WorkspaceSpec], gid: str) -> bool:
    """Whether the gid is something that exists but that no graph export can start from."""
    inside = (gid.removeprefix(known) for known in workspaces if gid.startswith(known))
    return gid in workspaces or any(rest[0] in (Kind.USER, Kind.TASK, Kind.MESSAGE) for rest in inside)
