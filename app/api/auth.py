"""Who is asking: bearer API keys (RFC 6750) and the scopes they have."""

from typing import Annotated

from fastapi import Body, Depends, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from app.access.clients import client_by_key, note_use
from app.access.models import Client, Scope
from app.api.request_id import request_id
from app.api.services import ServicesOf
from app.events.log import Cause
from app.problems import Code, ProblemError

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="apiKey",
    description="An API key, made by `asana-exports keys create` or `POST /v1/clients`.",
)


async def authenticated(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    services: ServicesOf,
) -> Client:
    """The client whose key came with the request, which counts against its rate."""
    if given is None:
        raise ProblemError(Code.UNAUTHENTICATED, "The request has no API key.")
    async with services.reads() as session:
        client = await client_by_key(session, given.credentials)
        if client is None:
            raise ProblemError(Code.UNAUTHENTICATED, "The API key is unknown or has been revoked.")
        await note_use(session, client)
    await services.rate.count(client)
    return client


Note = Annotated[
    str | None,
    Field(
        max_length=500,
        pattern=r"^[^\x00]*$",
        description="Why; kept in the event log.",
        examples=["asked for by the owner"],
    ),
]
NoteQuery = Annotated[Note, Query()]


class Reason(BaseModel):
    """Why it is done."""

    model_config = ConfigDict(extra="forbid")

    note: Note = None


# A body that may be left out.
ReasonBody = Annotated[Reason, Body(default_factory=Reason)]


def cause_of(client: Client, note: str | None = None) -> Cause:
    """What the event log is to say of an administrator's act."""
    return Cause(client.actor, request_id(), note)


class Requires:
    """Admits clients whose key has a scope."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    async def __call__(self, client: Annotated[Client, Depends(authenticated)]) -> Client:
        if not client.may(self._scope):
            raise ProblemError(Code.SCOPE_MISSING, f"This call needs a key with the scope {self._scope}.")
        return client


ExportsWriter = Annotated[Client, Depends(Requires(Scope.EXPORTS_WRITE))]
ExportsReader = Annotated[Client, Depends(Requires(Scope.EXPORTS_READ))]
ArtifactsReader = Annotated[Client, Depends(Requires(Scope.ARTIFACTS_READ))]
LanesAdmin = Annotated[Client, Depends(Requires(Scope.LANES_ADMIN))]
Admin = Annotated[Client, Depends(Requires(Scope.ADMIN))]
