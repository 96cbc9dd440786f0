"""Webhooks are believed when the service has sent them just now, and never else."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.webhooks.signing import new_secret, signed_headers
from asana_exports_client import NotGenuine, WebhookEvent, verify_webhook

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = (
    '{"type":"export.succeeded","timestamp":"2026-01-02T03:04:05.678901Z","data":{"id":"exp_1",'
    '"status":"succeeded","version":5,"links":{"export":"/v1/exports/exp_1"},"newer":1},"newer":true}'
)
OLD, SECRET = new_secret(), new_secret()
HEADERS = signed_headers([OLD, SECRET], "evt_1", AT, BODY)


def verified(
    body: str | bytes = BODY, secret: SecretStr = SECRET, later: float = 0, **headers: str | None
) -> WebhookEvent:
    changed = HEADERS | {f"webhook-{name}": value or "" for name, value in headers.items()}
    return verify_webhook(body, changed, secret.get_secret_value(), clock=lambda: AT.timestamp() + later)


def test_what_the_service_signs_is_genuine() -> None:
    """By each of its secrets while they rotate, whatever case a server gives the names of headers."""
    event = verified()
    assert (event.id, event.type, event.data.id, event.data.version) == (
        "evt_1",
        "export.succeeded",
        "exp_1",
        5,
    )
    assert event.timestamp.year == 2026
    assert verified(BODY.encode(), OLD) == event
    titled = {name.title(): value for name, value in HEADERS.items()}
    assert verify_webhook(BODY, titled, OLD.get_secret_value(), clock=AT.timestamp) == event


@pytest.mark.parametrize("later", [-301, 301, 10**6])
def test_what_is_played_back_is_not_genuine(later: float) -> None:
    assert verified(later=max(-300, min(later, 300)))
    with pytest.raises(NotGenuine, match="too long ago"):
        verified(later=later)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "evt_2"},
        {"timestamp": str(int(AT.timestamp()) + 1)},
        {"timestamp": "soon"},
        {"signature": ""},
        {"signature": "v1,é"},
        {"signature": HEADERS["webhook-signature"].replace("v1,", "v2,")},
        {"secret": new_secret()},
    ],
)
def test_what_was_changed_is_not_genuine(changed: dict[str, str]) -> None:
    with pytest.raises(NotGenuine):
        verified(**changed)  # type: ignore[arg-type]
    with pytest.raises(NotGenuine, match="lacks the headers"):
        verify_webhook(BODY, {}, SECRET.get_secret_value())


@given(st.integers(0, len(BODY) - 1), st.characters(codec="ascii"))
def test_a_body_that_was_changed_anywhere_is_not_genuine(place: int, other: str) -> None:
    if BODY[place] != other:
        with pytest.raises(NotGenuine):
            verified(BODY[:place] + other + BODY[place + 1 :])
