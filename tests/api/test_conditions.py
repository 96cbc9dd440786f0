"""Conditional and partial requests, case by case as RFC 9110 has them."""

from datetime import UTC, datetime, timedelta

import pytest
from starlette.datastructures import Headers

from app.api.conditions import Validators, http_date, prefers
from app.problems import Code, ProblemError

MADE = datetime(2026, 11, 24, 12, 0, 0, 400_000, UTC)
THEN, BEFORE, AFTER = (http_date(MADE + timedelta(seconds=seconds)) for seconds in (0, -1, 1))
FILE = Validators('"a"', MADE)


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({}, False),
        ({"If-None-Match": '"a"'}, True),
        ({"If-None-Match": 'W/"a"'}, True),
        ({"If-None-Match": '"b", "a"'}, True),
        ({"If-None-Match": "*"}, True),
        ({"If-None-Match": '"b"'}, False),
        ({"If-Modified-Since": THEN}, True),
        ({"If-Modified-Since": AFTER}, True),
        ({"If-Modified-Since": BEFORE}, False),
        ({"If-Modified-Since": "yesterday"}, False),
        ({"If-Modified-Since": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}, False),
        ({"If-Modified-Since": "Tue Nov 24 12:00:00 2026"}, True),
        # The tag is the better of the two (13.1.3).
        ({"If-None-Match": '"b"', "If-Modified-Since": AFTER}, False),
        ({"If-Match": '"a"', "If-None-Match": '"a"'}, True),
        ({"If-Match": "*"}, False),
        ({"If-Match": '"b", "a"'}, False),
        ({"If-Unmodified-Since": THEN}, False),
        ({"If-Unmodified-Since": "yesterday"}, False),
        # It is not looked at beside If-Match (13.1.4).
        ({"If-Match": '"a"', "If-Unmodified-Since": BEFORE}, False),
    ],
)
def test_what_the_caller_has_already_is_not_sent(headers: dict[str, str], known: bool) -> None:
    assert FILE.unchanged(Headers(headers)) is known


@pytest.mark.parametrize(
    "headers", [{"If-Match": '"b"'}, {"If-Match": 'W/"a"'}, {"If-Match": ""}, {"If-Unmodified-Since": BEFORE}]
)
def test_a_condition_that_is_not_met_is_a_problem(headers: dict[str, str]) -> None:
    with pytest.raises(ProblemError) as raised:
        FILE.unchanged(Headers(headers))
    assert raised.value.problem.code is Code.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("wanted", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-99", (0, 100)),
        ("bytes=10-", (10, 100)),
        ("bytes=99-1000000", (99, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("Bytes=5-6", (5, 7)),
        # Not a range, or not one: the whole is the answer (14.2).
        ("bytes=6-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("bytes", None),
        ("lines=0-1", None),
        ("bytes=٣-٤", None),
    ],
)
def test_a_part_is_what_the_range_says(wanted: str, part: tuple[int, int] | None) -> None:
    assert FILE.part(Headers(raw=[(b"range", wanted.encode())]), 100) == part


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_beyond_the_end_is_a_problem(wanted: str) -> None:
    with pytest.raises(ProblemError) as raised:
        FILE.part(Headers({"Range": wanted}), 100)
    assert (raised.value.problem.code, raised.value.size) == (Code.RANGE_NOT_SATISFIABLE, 100)


@pytest.mark.parametrize(
    ("if_range", "is_of_this"),
    [
        ('"a"', True),
        (THEN, True),
        ('"b"', False),
        ('W/"a"', False),
        (BEFORE, False),
        (AFTER, False),
        ("", False),
    ],
)
def test_a_part_of_another_file_is_not_wanted(if_range: str, is_of_this: bool) -> None:
    part = FILE.part(Headers({"Range": "bytes=0-9", "If-Range": if_range}), 100)
    assert part == ((0, 10) if is_of_this else None)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/x-ndjson", True),
        ("application/gzip, application/x-ndjson;q=0.5", False),
        ("application/gzip;q=0.5, application/x-ndjson", True),
        ("application/gzip;q=0, */*", True),
        ("*/*", False),
        ("", False),
        ("text/html, */*;q=0.8", False),
        ("application/*", False),
        ("application/x-ndjson;q=0", False),
        ("APPLICATION/X-NDJSON", True),
        ("application/x-ndjson;q=many", False),
    ],
)
def test_a_media_type_is_preferred(accept: str, wanted: bool) -> None:
    assert prefers(accept, "application/x-ndjson", to="application/gzip") is wanted
