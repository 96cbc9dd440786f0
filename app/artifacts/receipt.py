"""Receipts: what was verified of a file, signed, so that anybody can prove that theirs is that file.

A receipt is a compact JWS (RFC 7515), signed by Ed25519 (RFC 8037, RFC 9864), whose payload is the canonical
form (RFC 8785) of the facts.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import rfc8785
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey

from app.artifacts.manifest import Origin, schemas_of
from app.artifacts.models import Artifact
from app.artifacts.verify import Corrupt, Limits, TooLarge, Verifier
from app.database.base import Json

ALGORITHM = "Ed25519"
MEDIA_TYPE = "application/jose"
PIECE = 1 << 20
# What whoever has the file can find out alone.
FOUND_OUT = ("sha256", "bytes", "uncompressed_bytes", "lines", "by_type", "duplicate_gids")


class NotSigned(Exception):
    """The receipt was not signed by any of the keys."""


def facts_of(artifact: Artifact, origin: Origin) -> Json:
    """What a receipt tells of an artifact whose `key_paths` are loaded; all of it never changes."""
    span, schemas = origin.data_as_of, schemas_of(artifact) or {}
    return {
        "artifact": artifact.id,
        "run": artifact.run,
        "archived_at": artifact.created_at.isoformat(),
        "request": origin.request,
        "upstream": {"job": origin.upstream.job, "export": origin.upstream.export},
        "data_as_of": {
            "from": span.since.isoformat() if span.since else None,
            "to": span.to.isoformat() if span.to else None,
        },
        "fingerprints": {kind: schema.fingerprint for kind, schema in schemas.items()},
        **{name: getattr(artifact, name) for name in FOUND_OUT},
    }


def signed(facts: Json, key: OKPKey) -> str:
    """The receipt of those facts; the same each time, for the same key."""
    header = {"alg": ALGORITHM, "kid": key.thumbprint()}
    return jws.serialize_compact(header, rfc8785.dumps(facts), key, algorithms=[ALGORITHM])


def read(receipt: str, public_keys: Any) -> tuple[str, Json]:
    """The id of the key that has signed a receipt, one of a JWK Set (RFC 7517), and the facts.

    Raises `NotSigned`.
    """
    try:
        keys = KeySet.import_key_set(public_keys)
        found = jws.deserialize_compact(receipt, keys, algorithms=[ALGORITHM])
        return str(found.headers()["kid"]), json.loads(found.payload)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise NotSigned(f"{type(error).__name__}: {error}") from None


def differences(facts: Json, file: BinaryIO, untyped: str) -> Iterator[str]:
    """In what a file is not the one of these facts; `untyped` is as the `Verifier` takes it."""
    verifier = Verifier(Limits(facts["uncompressed_bytes"], facts["uncompressed_bytes"]), untyped)
    try:
        while piece := file.read(PIECE):
            verifier.feed(piece)
        found = verifier.finish()
    except (Corrupt, TooLarge) as error:
        yield str(error)
        return
    for name in FOUND_OUT:
        # Null is what was not looked at when the file was archived.
        if facts[name] is not None and getattr(found, name) != facts[name]:
            yield f"{name} is {getattr(found, name)} instead of {facts[name]}"
