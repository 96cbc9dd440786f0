"""The people and places of a workspace that its tasks and messages refer to."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.sandbox.dice import roll
from app.sandbox.settings import WorkspaceSpec
from app.sandbox.world import Kind, gid_of

Compact = dict[str, Any]

FIRST = (
    "Ada",
    "Blaise",
    "Chiara",
    "Dmitri",
    "Emmy",
    "Farid",
    "Grace",
    "Hedy",
    "Ibn",
    "Joana",
    "Kenji",
    "Lise",
)
LAST = (
    "Alvarez",
    "Brandt",
    "Curie",
    "Dubois",
    "Euler",
    "Fischer",
    "Göbel",
    "Hopper",
    "Ito",
    "Jansen",
    "Kovač",
)
TEAMS = ("Marketing", "Engineering", "Operations", "Design", "Finance", "People")
PROJECTS = ("Website relaunch", "Quarterly audit", "Onboarding", "Mobile app", "Data platform", "Trade fair")
SECTIONS = ("To do", "In progress", "Done")


def compact(resource_type: str, gid: str, name: str) -> Compact:
    """An object as it appears inside others."""
    return {"gid": gid, "resource_type": resource_type, "name": name}


@dataclass(frozen=True)
class Cast:
    """Compact objects of one workspace, built once and shared by all lines."""

    seed: int
    spec: WorkspaceSpec
    workspace: Compact
    users: list[Compact]
    teams: list[Compact]
    projects: list[Compact]
    sections: list[list[Compact]]

    def user(self, bits: int) -> Compact:
        """One of the people."""
        return self.users[bits % len(self.users)]

    def some_users(self, bits: int, most: int) -> list[Compact]:
        """A few different people, possibly none."""
        first, total = bits % len(self.users), len(self.users)
        return [self.users[(first + step) % total] for step in range(min((bits >> 8) % (most + 1), total))]


@lru_cache(maxsize=256)
def _people(workspace: str, users: int) -> list[Compact]:
    return [
        compact("user", gid_of(workspace, Kind.USER, n), f"{FIRST[n % len(FIRST)]} {LAST[n % len(LAST)]}")
        for n in range(1, users + 1)
    ]


def cast_of(seed: int, spec: WorkspaceSpec) -> Cast:
    """The cast of a workspace."""
    numbers = range(1, spec.projects + 1)
    return Cast(
        seed=roll(seed, int(spec.gid)),
        spec=spec,
        workspace=compact("workspace", spec.gid, workspace_name(spec)),
        users=_people(spec.gid, spec.users),
        teams=[
            compact("team", gid_of(spec.gid, Kind.TEAM, n), f"{TEAMS[n % len(TEAMS)]} {n}")
            for n in range(1, spec.teams + 1)
        ],
        projects=[
            compact("project", gid_of(spec.gid, Kind.PROJECT, n), f"{PROJECTS[n % len(PROJECTS)]} {n}")
            for n in numbers
        ],
        sections=[
            [compact("section", f"{spec.gid}6{n:03d}{place}", name) for place, name in enumerate(SECTIONS, 1)]
            for n in numbers
        ],
    )


def workspace_name(spec: WorkspaceSpec) -> str:
    """What the workspace is called."""
    return spec.name or f"Sandbox {spec.gid}"
