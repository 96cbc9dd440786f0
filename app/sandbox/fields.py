"""`opt_fields` paths: which parts of an object to show."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Tree = dict[str, "Tree"]
_GROUP = re.compile(r"\(([^()]*)\)")


def parse(paths: Iterable[str]) -> Tree:
    """Read paths such as `name`, `assignee.name`, `this.gid` and `memberships.(project|section).gid`."""
    tree: Tree = {}
    for path in paths:
        for plain in _spelled_out(path.strip()):
            branch = tree
            for part in plain.removeprefix("this.").split("."):
                branch = branch.setdefault(part, {})
    return tree


def _spelled_out(path: str) -> list[str]:
    group = _GROUP.search(path)
    if group is None:
        return [path]
    before, after = path[: group.start()], path[group.end() :]
    return [plain for choice in group[1].split("|") for plain in _spelled_out(before + choice + after)]


def pick(value: Mapping[str, Any], tree: Tree) -> dict[str, Any]:
    """The object with the fields asked for and its gid. A field that does not exist is left out."""
    picked = {"gid": value["gid"]} if "gid" in value else {}
    for name, branch in tree.items():
        if name in value:
            picked[name] = _picked(value[name], branch)
    return picked


def _picked(value: Any, tree: Tree) -> Any:
    if isinstance(value, list):
        return [_picked(item, tree) for item in value]
    if not isinstance(value, dict):
        return value
    if not tree and "gid" in value:
        return {key: value[key] for key in ("gid", "resource_type") if key in value}
    return pick(value, tree) if tree else value


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The object with dotted keys instead of objects inside it."""
    flattened: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flattened |= flat(item, f"{prefix}{key}.")
        else:
            flattened[prefix + key] = item
    return flattened
