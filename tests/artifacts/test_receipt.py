"""Receipts: what they prove, and to whom."""

import gzip
import io
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from app.artifacts.manifest import Origin, Span, Upstream
from app.artifacts.models import Artifact
from app.artifacts.receipt import NotSigned, differences, facts_of, read, signed
from app.artifacts.verify import Limits, Verifier
from app.database.base import Json
from app.ids import RunId, new_artifact_id

KEY, OTHER = OKPKey.generate_key("Ed25519"), OKPKey.generate_key("Ed25519")
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ORIGIN = Origin({"parent": "1"}, NOW, Span(NOW, None), Upstream("7", None))
FILE = gzip.compress(b'{"gid":"1"}\n{"gid":"2","a":{"b":1}}\n{"gid":"1"}\n', mtime=0)


def jwks(*keys: OKPKey) -> Json:
    return {"keys": [key.as_dict(private=False, kid=key.thumbprint()) for key in keys]}


def facts(file: bytes, **more: Any) -> Json:
    verifier = Verifier(Limits(1 << 20, 1 << 20), "task")
    verifier.feed(file)
    artifact = Artifact(
        id=new_artifact_id(),
        run=RunId("run_1"),
        created_at=NOW,
        expires_at=NOW + timedelta(days=1),
        **(asdict(verifier.finish()) | more),
    )
    return facts_of(artifact, ORIGIN)


def told(known: Json, file: bytes) -> list[str]:
    return list(differences(known, io.BytesIO(file), "task"))


def test_a_receipt_says_what_was_verified_and_who_says_so() -> None:
    known = facts(FILE)
    kid, found = read(signed(known, KEY), jwks(OTHER, KEY))
    assert (kid, found) == (KEY.thumbprint(), known)
    assert told(found, FILE) == []
    assert found["lines"] == 3
    assert found["duplicate_gids"] == 1
    assert len(found["fingerprints"]["task"]) == 64


def test_a_receipt_is_the_same_each_time() -> None:
    known = facts(FILE)
    assert signed(known, KEY) == signed(dict(reversed(known.items())), KEY)


@given(st.integers(0), st.characters(codec="ascii", categories=["L", "N"]))
def test_a_receipt_that_was_changed_anywhere_is_not_signed(place: int, other: str) -> None:
    receipt = signed(facts(FILE), KEY)
    place %= len(receipt) - 1  # the last character has bits that mean nothing
    if receipt[place] != other:
        with pytest.raises(NotSigned):
            read(receipt[:place] + other + receipt[place + 1 :], jwks(KEY))


@pytest.mark.parametrize("keys", [{"keys": []}, jwks(OTHER), {}, [], None, {"keys": [{"kty": "oct"}]}])
def test_a_receipt_is_not_signed_by_other_keys(keys: Any) -> None:
    with pytest.raises(NotSigned):
        read(signed(facts(FILE), KEY), keys)


# Unsigned, signed by what everybody knows, and no receipts at all.
@pytest.mark.parametrize("receipt", ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AA"])
def test_what_only_looks_like_a_receipt_is_none(receipt: str) -> None:
    with pytest.raises(NotSigned):
        read(receipt, jwks(KEY))


def test_another_file_is_told_by_how_it_differs() -> None:
    longer = told(facts(FILE), FILE + gzip.compress(b'{"gid":"3"}\n'))
    assert [each.partition(" ")[0] for each in longer] == ["the"]
    other = told(facts(FILE), gzip.compress(b'{"gid":"1"}\n'))
    assert {each.partition(" ")[0] for each in other} >= {"sha256", "bytes", "lines", "duplicate_gids"}
    assert told(facts(FILE), FILE[:-1]) == ["the file ends in the middle"]
    assert "not intact gzip" in told(facts(FILE), b"<html>" * 9)[0]


def test_what_was_not_looked_at_is_not_compared() -> None:
    assert told(facts(FILE, duplicate_gids=None, key_paths=None), FILE) == []


def test_an_empty_file_has_a_receipt_too() -> None:
    assert told(facts(gzip.compress(b"", mtime=0)), gzip.compress(b"", mtime=0)) == []
