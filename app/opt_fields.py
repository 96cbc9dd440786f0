"""Which parts of an object to show, as Asana's API is asked: by `opt_fields` or a body's `options`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

Tree = dict[str, "Tree"]
_GROUP = re.compile(r"\(([^()]*)\)")
# Asana's own are much shorter; a chain of groups stands for more paths than there is time to look at.
LONGEST, MOST = 200, 1000


def split(given: str) -> list[str]:
    """The paths of `opt_fields`: separated by commas, or the way Python writes a list."""
    return [path.strip(" []'\"") for path in given.split(",")]


def parse(paths: Iterable[str]) -> Tree:
    """Read paths such as `name`, `assignee.name`, `this.gid` and `memberships.(project|section).gid`."""
    tree: Tree = {}
    for path in paths:
        for plain in islice(_spelled_out(path.strip()), MOST) if len(path) <= LONGEST else ():
            branch = tree
            for part in plain.removeprefix("this.").split("."):
                branch = branch.setdefault(part, {})
    return tree


def _spelled_out(path: str) -> Iterator[str]:
    group = _GROUP.search(path)
    if group is None:
        yield path
        return
    before, after = path[: group.start()], path[group.end() :]
    for choice in group[1].split("|"):
        yield from _spelled_out(before + choice + after)


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
