"""Who is asking: bearer API keys (RFC 6750) and the scopes they have."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.access.clients import client_by_key, note_use
from app.access.models import Client, Scope
from app.api.services import ServicesOf
from app.problems import Code, ProblemError

bearer = HTTPBearer(
    auto_error=False, scheme_name="apiKey", description="An API key, made by `asana-exports keys create`."
)


async def authenticated(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)], services: ServicesOf
) -> Client:
    """The client whose key came with the request."""
    if given is None:
        raise ProblemError(Code.UNAUTHENTICATED, "The request has no API key.")
    async with services.sessions.begin() as session:
        client = await client_by_key(session, given.credentials)
        if client is None:
            raise ProblemError(Code.UNAUTHENTICATED, "The API key is unknown or has been revoked.")
        await note_use(session, client)
    return client


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
Admin = Annotated[Client, Depends(Requires(Scope.ADMIN))]
