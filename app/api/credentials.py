"""Asana tokens, for administrators. A token goes in and never comes out."""

import re
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response, status
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints
from pydantic_core import PydanticCustomError

from app.access.credentials import all_credentials, credential_by_id, register_credential, replace_token
from app.access.models import Credential, CredentialState
from app.api.auth import Admin, Note, cause_of
from app.api.ids import CredentialIdPath
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.services import ServicesOf
from app.problems import Code

router = APIRouter(prefix="/v1/credentials", tags=["credentials"])

# What the header of a request can carry (RFC 6750, section 2.1), and the separators Asana's own tokens have.
BEARER = r"^[A-Za-z0-9._~+/:=-]+$"


def _fits_a_header(token: SecretStr) -> SecretStr:
    if not re.fullmatch(BEARER, token.get_secret_value()):
        raise PydanticCustomError("token", "must be letters, digits and any of . _ ~ + / : = -")
    return token


Token = Annotated[
    SecretStr,
    Field(
        min_length=1,
        max_length=1000,
        examples=["2/1234567890:abcdef"],
        json_schema_extra={"pattern": BEARER},
    ),
    AfterValidator(_fits_a_header),
]
ON_WRITE = (*ON_BODY, Code.CREDENTIAL_REFUSED, Code.UPSTREAM_UNAVAILABLE)


class CredentialCreate(BaseModel):
    """A token of Asana: a service account's for resource exports, any user's for graph exports."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00]+$")] = Field(
        examples=["service account of Example Ltd"]
    )
    token: Token
    note: Note = None


class TokenReplace(BaseModel):
    """Another token for the same credential."""

    model_config = ConfigDict(extra="forbid")

    token: Token
    note: Note = None


class CredentialOut(BaseModel):
    """What is known of a token; the token itself is never shown."""

    id: str
    name: str
    state: CredentialState = Field(description="`invalid` once Asana has refused the token.")
    invalid_since: datetime | None
    asana_user_gid: str
    asana_user_name: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, credential: Credential) -> "CredentialOut":
        return cls(
            id=credential.id,
            name=credential.name,
            state=credential.state,
            invalid_since=credential.invalid_since,
            asana_user_gid=credential.asana_user,
            asana_user_name=credential.asana_user_name,
            created_at=credential.created_at,
            updated_at=credential.updated_at,
        )


class CredentialList(BaseModel):
    items: list[CredentialOut]


@router.post("", status_code=status.HTTP_201_CREATED, responses=problems(*ON_WRITE, Code.CONFLICT))
async def create_credential(
    body: CredentialCreate, client: Admin, services: ServicesOf, response: Response
) -> CredentialOut:
    """Store a token, once Asana has told whose it is."""
    credential = await register_credential(
        services.sessions, services.vault, services.asana, body.name, body.token, cause_of(client, body.note)
    )
    response.headers["Location"] = f"/v1/credentials/{credential.id}"
    return CredentialOut.of(credential)


@router.put("/{credential_id}", responses=problems(*ON_WRITE))
async def replace_credential_token(
    client: Admin, credential_id: CredentialIdPath, body: TokenReplace, services: ServicesOf
) -> CredentialOut:
    """Replace the token. Exports that waited for it go on; a job in progress is followed with the new one."""
    credential = await replace_token(
        services.sessions,
        services.vault,
        services.asana,
        credential_id,
        body.token,
        cause_of(client, body.note),
    )
    return CredentialOut.of(credential)


@router.get("", responses=problems(*ON_CALL))
async def list_credentials(client: Admin, services: ServicesOf) -> CredentialList:
    """All credentials, in order of registration."""
    async with services.sessions() as session:
        return CredentialList(items=[CredentialOut.of(each) for each in await all_credentials(session)])


@router.get("/{credential_id}", responses=problems(*ON_CALL))
async def get_credential(
    client: Admin, credential_id: CredentialIdPath, services: ServicesOf
) -> CredentialOut:
    """One credential."""
    async with services.sessions() as session:
        return CredentialOut.of(await credential_by_id(session, credential_id))
