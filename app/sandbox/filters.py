"""The filters of a resource export, and what passes them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from app.sandbox.clock import timestamp
from app.sandbox.refusals import Refused

Line = Mapping[str, Any]
Test = Callable[[Line], bool]

TASK_FILTERS = {"assigned_by.any", "assignee.any"}
USER_FILTERS = {"commented_on_by.any", "created_by.any", "followers.any", "liked_by.any"}
DATE_FILTERS = {"created_at.after", "created_at.before", "modified_at.after", "modified_at.before"}
KNOWN = TASK_FILTERS | USER_FILTERS | DATE_FILTERS


def parse(resource_type: str, filters: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """The filters in one spelling: user gids as a list, instants the way lines spell them."""
    allowed: set[str] = {"task": KNOWN, "message": KNOWN - TASK_FILTERS}.get(resource_type, set())
    if strict and resource_type == "team" and filters:
        raise Refused(400, "filters: Filtering is not supported for teams")
    if strict and (unsupported := sorted(set(filters) - allowed)):
        raise Refused(400, f"filters: Unsupported filter for {resource_type}: {unsupported[0]}")
    return {key: _value(key, filters[key]) for key in sorted(allowed & set(filters))}


def _value(key: str, value: Any) -> Any:
    if key in DATE_FILTERS:
        return _instant(key, value)
    if not isinstance(value, list):
        raise Refused(400, f"{key}: Not an Array")
    for gid in value:
        if not (isinstance(gid, str) and gid.isdecimal()):
            raise Refused(400, f"{key}: Not a Long: {gid}")
    return value


def _instant(key: str, value: Any) -> str:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Refused(400, f"{key}: Not a valid date-time: {value}") from None
    return timestamp((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())


def passes(filters: Mapping[str, Any], *, inclusive: bool) -> Test:
    """A test of lines: all filters have to hold."""
    tests = [_test(key, value, inclusive=inclusive) for key, value in filters.items()]
    return lambda line: all(test(line) for test in tests)


def _test(key: str, value: Any, *, inclusive: bool) -> Test:
    field, _, how = key.partition(".")
    match how:
        case "after":
            return lambda line: line[field] > value or (inclusive and line[field] == value)
        case "before":
            return lambda line: line[field] < value or (inclusive and line[field] == value)
        case _:
            users = set(value)
            return lambda line: not users.isdisjoint(_people(field, line))


def _people(field: str, line: Line) -> Iterable[str]:
    match field:
        case "followers":
            return [user["gid"] for user in line["followers"]]
        case "liked_by":
            return [like["user"]["gid"] for like in line["likes"]]
        case "commented_on_by":
            return [
                s["created_by"]["gid"] for s in line["stories"] if s["resource_subtype"] == "comment_added"
            ]
        case _:
            user = line[field]
            return [user["gid"]] if user else []
