"""The Idempotency-Key of a request."""

from typing import Annotated

from fastapi import Depends, Header

from app.problems import Code, ProblemError

LONGEST = 255
# HTTP takes the spaces around a value away.
PRINTABLE = r"^[!-~]([ -~]*[!-~])?$"


def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Any 1 to 255 printable ASCII characters. Sent again with the same body, the request "
            "makes no second export. Recommended.",
            examples=["bi-2026-01-01"],
            json_schema_extra={
                "anyOf": [{"type": "string", "maxLength": LONGEST, "pattern": PRINTABLE}, {"type": "null"}]
            },
        ),
    ] = None,
) -> str | None:
    """The key as sent. Raises `ProblemError` `idempotency-key-invalid`."""
    if key is not None and not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise ProblemError(
            Code.IDEMPOTENCY_KEY_INVALID, f"The key must be 1 to {LONGEST} printable ASCII characters."
        )
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]
