"""The Idempotency-Key of a request."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Header, Response
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.idempotency import Id, once
from app.access.models import Client
from app.database.base import Json
from app.problems import Code, ProblemError

LONGEST = 255
# HTTP takes the spaces around a value away.
PRINTABLE = r"^[!-~]([ -~]*[!-~])?$"


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="Any 1 to 255 printable ASCII characters. Sent again with the same key and body, the "
            "request makes nothing twice: the answer tells of what it made, as that is now. Recommended.",
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


async def made_once(
    session: AsyncSession,
    response: Response,
    client: Client,
    route: str,
    key: str | None,
    body: Json,
    make: Callable[[], Awaitable[Id]],
) -> Id:
    """The id of what the request makes, or has made before: the answer says so. Raises `ProblemError`."""
    made, replayed = await once(session, client.id, route, key, body, make)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return made
