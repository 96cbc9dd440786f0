"""Receipts: the proof that a file is whole and came from the service."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asana_exports_client.errors import Damaged, MissingExtra, NotGenuine

ALGORITHM = "Ed25519"


def verify_receipt(receipt: str, keys: Mapping[str, Any], file: Path | str | None = None) -> dict[str, Any]:
    """What a receipt says, once its signature, and the `file`'s SHA-256 where one is given, are found right.

    `keys` is the JWK Set of the service: what the client's `signing_keys` gave, or what you have kept of it;
    no network is needed. Raises `NotGenuine`, `Damaged` and, without the extra `receipts`, `MissingExtra`.
    """
    try:
        from joserfc import jws
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet
    except ImportError:
        raise MissingExtra("verify_receipt()", "receipts") from None
    try:
        known = KeySet.import_key_set(dict(keys))  # type: ignore[arg-type]
        facts: dict[str, Any] = json.loads(
            jws.deserialize_compact(receipt, known, algorithms=[ALGORITHM]).payload
        )
        wanted = facts["sha256"]
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise NotGenuine(f"None of these keys has signed the receipt: {error}") from None
    if file is not None:
        with Path(file).open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != wanted:
            raise Damaged(f"The SHA-256 of {file} is {found} instead of {wanted}.")
    return facts
