"""Clients, for administrators: who may ask for what. An API key is shown once, when it is made."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field

from app.access.clients import (
    ClientChanges,
    ClientSpec,
    GrantSpec,
    all_clients,
    change_client,
    client_by_id,
    create_client,
    replace_key,
    revoke_client,
)
from app.access.models import Client, Scope
from app.api.auth import Admin, Note, ReasonBody, cause_of
from app.api.ids import ClientIdPath
from app.api.problems import ON_BODY, ON_CALL, problems
from app.api.services import ServicesOf
from app.problems import Code

router = APIRouter(prefix="/v1/clients", tags=["clients"])


EXAMPLE: dict[str, Any] = {
    "name": "bi",
    "scopes": ["exports:write", "exports:read", "artifacts:read"],
    "grants": [{"workspace": "12345", "kinds": ["resource"], "highest_priority": "normal"}],
    "max_queued": 100,
    "note": "nightly reports",
}


class ClientCreate(ClientSpec):
    """A new client; without grants it may export everywhere, up to the priority `high`."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    note: Note = None


class ClientPatch(ClientChanges):
    """What is to be changed; what is left out stays, and a null takes a limit away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_queued": 200, "note": "more teams"}]})

    note: Note = None


class ClientOut(BaseModel):
    """An internal caller."""

    id: str
    name: str
    scopes: list[Scope]
    grants: list[GrantSpec]
    max_queued: int | None
    max_stored_bytes: int | None
    retention_days: int | None
    default_workspace: str | None
    created_at: datetime
    last_used_at: datetime | None = Field(description="When its key was last used, to the minute.")
    revoked_at: datetime | None = Field(description="Since when its key opens nothing.")

    @classmethod
    def of(cls, client: Client) -> "ClientOut":
        return cls(
            id=client.id,
            name=client.name,
            scopes=[Scope(scope) for scope in client.scopes],
            grants=[
                GrantSpec.model_validate(grant, from_attributes=True)
                for grant in sorted(client.grants, key=lambda grant: grant.workspace)
            ],
            max_queued=client.max_queued,
            max_stored_bytes=client.max_stored_bytes,
            retention_days=client.retention_days,
            default_workspace=client.default_workspace,
            created_at=client.created_at,
            last_used_at=client.last_used_at,
            revoked_at=client.revoked_at,
        )


class ClientWithKey(ClientOut):
    """A client with its new key."""

    key: str = Field(description="Shown this once; only a hash of it is kept.")

    @classmethod
    def having(cls, client: Client, key: str) -> "ClientWithKey":
        return cls(**dict(ClientOut.of(client)), key=key)


class ClientList(BaseModel):
    items: list[ClientOut]


@router.post("", status_code=status.HTTP_201_CREATED, responses=problems(*ON_BODY, Code.CONFLICT))
async def post_client(
    body: ClientCreate, client: Admin, services: ServicesOf, response: Response
) -> ClientWithKey:
    """Make a client and its API key."""
    async with services.sessions.begin() as session:
        made, key = await create_client(session, body, cause_of(client, body.note))
    response.headers["Location"] = f"/v1/clients/{made.id}"
    return ClientWithKey.having(made, key)


@router.get("", responses=problems(*ON_CALL))
async def list_clients(client: Admin, services: ServicesOf) -> ClientList:
    """All clients, the revoked ones too, in order of making."""
    async with services.sessions() as session:
        return ClientList(items=[ClientOut.of(each) for each in await all_clients(session)])


@router.get("/{client_id}", responses=problems(*ON_CALL))
async def get_client(client: Admin, client_id: ClientIdPath, services: ServicesOf) -> ClientOut:
    """One client."""
    async with services.sessions() as session:
        return ClientOut.of(await client_by_id(session, client_id))


@router.patch("/{client_id}", responses=problems(*ON_BODY, Code.CONFLICT))
async def patch_client(
    client: Admin, client_id: ClientIdPath, body: ClientPatch, services: ServicesOf
) -> ClientOut:
    """Change what a client may do, from its next request on; what it has asked for goes on."""
    async with services.sessions.begin() as session:
        return ClientOut.of(await change_client(session, client_id, body, cause_of(client, body.note)))


@router.post("/{client_id}/key", status_code=status.HTTP_201_CREATED, responses=problems(*ON_BODY))
async def replace_client_key(
    client: Admin,
    client_id: ClientIdPath,
    services: ServicesOf,
    body: ReasonBody,
) -> ClientWithKey:
    """Give a client another key. The old one opens nothing from now on; a revoked client is let in again."""
    async with services.sessions.begin() as session:
        cause = cause_of(client, body.note)
        return ClientWithKey.having(*await replace_key(session, client_id, cause))


@router.post("/{client_id}/revoke", responses=problems(*ON_BODY))
async def revoke_client_key(
    client: Admin,
    client_id: ClientIdPath,
    services: ServicesOf,
    body: ReasonBody,
) -> ClientOut:
    """Let its key open nothing from now on. Its exports go on, and it stays in the list."""
    async with services.sessions.begin() as session:
        return ClientOut.of(await revoke_client(session, client_id, cause_of(client, body.note)))
