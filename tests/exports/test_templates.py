"""What a schedule asks for at a slot, and what is refused of a window."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from app.exports.templates import STORED

SLOT = datetime(2026, 6, 1, 2, tzinfo=UTC)
MARK = datetime(2026, 5, 31, 2, 3, 4, tzinfo=UTC)
SINCE = {"since": "last_success"}


def wanted(**filters: Any) -> dict[str, Any]:
    """Filters are named with an underscore instead of the dot."""
    named = {re.sub("_(after|before)$", r".\1", name): value for name, value in filters.items()}
    return {"workspace": "1001", "export_request_parameters": [{"resource_type": "task", "filters": named}]}


def filters_at(watermark: datetime | None, **filters: Any) -> dict[str, Any]:
    asked = STORED.validate_python(wanted(**filters)).at(SLOT, watermark).for_asana()
    found: dict[str, Any] = asked["export_request_parameters"][0].get("filters", {})
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_since_the_last_success_begins_at_the_watermark_less_the_overlap() -> None:
    asked = filters_at(MARK, modified_at_after=SINCE | {"overlap": "2h"})
    assert moment(asked["modified_at.after"]) == MARK - timedelta(hours=2)
    asked = filters_at(MARK, modified_at_after=SINCE)
    assert moment(asked["modified_at.after"]) == MARK - timedelta(minutes=15)


def test_no_overlap_goes_beyond_the_beginning_of_time() -> None:
    beginning = datetime(1, 1, 1, tzinfo=UTC)
    assert moment(filters_at(beginning, modified_at_after=SINCE)["modified_at.after"]) == beginning


def test_before_the_first_success_it_begins_where_told_or_at_the_very_beginning() -> None:
    first = "2026-01-01T00:00:00Z"
    assert filters_at(None, modified_at_after=SINCE | {"first": first}) == {"modified_at.after": first}
    assert filters_at(None, modified_at_after=SINCE) == {}


def test_a_relative_window_moves_with_the_slot() -> None:
    asked = filters_at(MARK, created_at_after={"relative": "-24h"}, created_at_before={"relative": "-30m"})
    assert moment(asked["created_at.after"]) == SLOT - timedelta(days=1)
    assert moment(asked["created_at.before"]) == SLOT - timedelta(minutes=30)


def test_other_filters_and_fixed_times_stay_as_they_are() -> None:
    body = wanted(modified_at_after=SINCE, created_at_after="2025-01-01T00:00:00Z")
    body["export_request_parameters"][0]["filters"]["assignee.any"] = ["7"]
    body["export_request_parameters"].append({"resource_type": "team"})
    asked = STORED.validate_python(body).at(SLOT, None).for_asana()
    assert asked["export_request_parameters"] == [
        {
            "resource_type": "task",
            "filters": {"assignee.any": ["7"], "created_at.after": "2025-01-01T00:00:00Z"},
        },
        {"resource_type": "team"},
    ]


def test_what_is_kept_is_read_as_it_was_given() -> None:
    given = STORED.validate_python(wanted(modified_at_after=SINCE) | {"deliver_within": 60})
    kept = given.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert STORED.validate_python(kept) == given


@pytest.mark.parametrize(
    ("filters", "at"),
    [
        # Of what is left out, the next export would not ask again.
        ({"modified_at_after": SINCE, "modified_at_before": {"relative": "-1h"}}, "modified_at.before"),
        ({"modified_at_after": SINCE, "created_at_before": "2026-01-01T00:00:00Z"}, "created_at.before"),
        # It would close one day.
        (
            {"modified_at_after": {"relative": "-1d"}, "modified_at_before": "2030-01-01T00:00:00Z"},
            "modified_at.before",
        ),
        (
            {"modified_at_after": "2020-01-01T00:00:00Z", "modified_at_before": {"relative": "-1d"}},
            "modified_at.before",
        ),
        (
            {"created_at_after": {"relative": "-1h"}, "created_at_before": {"relative": "-2h"}},
            "created_at.before",
        ),
        ({"created_at_before": SINCE}, "created_at.before"),
        ({"created_at_after": SINCE | {"overlap": "soon"}}, "created_at.after"),
        ({"created_at_after": {"since": "yesterday"}}, "created_at.after"),
        ({"created_at_after": {"relative": "1h"}}, "created_at.after"),
        ({"created_at_after": {"relative": "-1h", "more": 1}}, "created_at.after"),
        ({"created_at_after": 7}, "created_at.after"),
    ],
)
def test_windows_that_cannot_be_meant_are_refused(filters: dict[str, Any], at: str) -> None:
    with pytest.raises(ValidationError) as refused:
        STORED.validate_python(wanted(**filters))
    assert {error["loc"][4] for error in refused.value.errors()} == {at}


def test_asanas_own_rules_hold_too_and_all_faults_are_told_at_once() -> None:
    body = wanted(modified_at_after=SINCE, modified_at_before={"relative": "-1h"})
    body["export_request_parameters"].append(
        {"resource_type": "team", "filters": {"created_at.after": SINCE}}
    )
    with pytest.raises(ValidationError) as refused:
        STORED.validate_python(body)
    assert [error["loc"][2:5:2] for error in refused.value.errors()] == [
        (0, "modified_at.before"),
        (1, "created_at.after"),
    ]
