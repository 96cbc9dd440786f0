"""Where a client finds the service, and by which key it comes."""

import pytest

from asana_exports_client import Client
from asana_exports_client._address import address


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASANA_EXPORTS_URL", "https://exports.example\n")
    monkeypatch.setenv("ASANA_EXPORTS_KEY", "a key\n")


def test_what_is_given_goes_before_the_environment() -> None:
    assert address(None, None) == ("https://exports.example", "a key")
    assert address("http://127.0.0.1:8080", "mine") == ("http://127.0.0.1:8080", "mine")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASANA_EXPORTS_URL")
    with pytest.raises(ValueError, match="ASANA_EXPORTS_URL is not set"):
        Client()


def test_what_cannot_be_such_is_refused_without_showing_the_key() -> None:
    with pytest.raises(ValueError, match=r"not as 'exports\.example'"):
        Client("exports.example")
    for key in "two\nlines", "schlüssel":
        with pytest.raises(ValueError, match=r"characters that cannot be sent\.$"):
            Client(key=key)
