"""Paths of `opt_fields`, whatever they look like."""

import pytest

from app.opt_fields import MOST, parse, pick, split

JOB = {"gid": "1", "status": "succeeded", "new_graph_export": {"gid": "2", "resource_type": "x", "url": "u"}}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("status", {"gid": "1", "status": "succeeded"}),
        ("this.status,nothing", {"gid": "1", "status": "succeeded"}),
        ("new_graph_export", {"gid": "1", "new_graph_export": {"gid": "2", "resource_type": "x"}}),
        ("(x|new_graph_export).url", {"gid": "1", "new_graph_export": {"gid": "2", "url": "u"}}),
        ("['status', 'x']", {"gid": "1", "status": "succeeded"}),
        ("(((", {"gid": "1"}),
        ("", {"gid": "1"}),
    ],
)
def test_what_is_asked_for_is_shown(given: str, shown: object) -> None:
    assert pick(JOB, parse(split(given))) == shown


def test_paths_that_stand_for_very_many_take_no_time() -> None:
    """Spelled out, these are more than there are atoms."""
    assert len(parse(["(a|b)" * 40])) <= MOST
    assert parse(["(a|b)" * 10**5]) == {}
    assert parse(["a." * 10**5]) == {}
