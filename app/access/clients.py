"""Clients and their API keys."""

import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from app.access.models import ALL_WORKSPACES, Client, Grant, Kind, Priority, Scope
from app.database.base import NO_KEY_UPDATE, Json
from app.events.log import Cause, EventType, audit
from app.ids import GID, ClientId, new_client_id
from app.problems import Code, ProblemError

T = TypeVar("T")

PREFIX = "aex"
# What a column holds, and what every reader of JSON holds exactly (RFC 8259, section 6).
MOST_INT, MOST_BYTES = 2**31 - 1, 2**53 - 1
LAST_USE_TO = timedelta(minutes=1)
MOST_DAYS = 3650
# Asked at every request: a statement that is put together each time takes longer than its answer.
ONE_WITH_GRANTS = select(Client).options(joinedload(Client.grants)).where(Client.id == bindparam("id"))


def _once_each(values: tuple[T, ...]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


class GrantSpec(BaseModel):
    """Where a client may export, what, and how urgently."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: str = Field(
        ALL_WORKSPACES, pattern=r"^(\*|[0-9]{1,20})$", description="A workspace's gid, or `*` for all."
    )
    kinds: Annotated[tuple[Kind, ...], AfterValidator(_once_each)] = Field(tuple(Kind), min_length=1)
    highest_priority: Priority = Field(Priority.HIGH, description="The most urgent class it may ask for.")
    max_queued: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=MOST_INT,
        description="Exports it may have queued there at a time; null for no limit.",
    )


def _one_for_each_workspace(grants: tuple[GrantSpec, ...]) -> tuple[GrantSpec, ...]:
    if len({grant.workspace for grant in grants}) < len(grants):
        raise PydanticCustomError("grants", "must name each workspace once")
    return grants


Name = Annotated[
    str,
    Field(
        pattern=r"^[\w.-][\w. -]{0,98}[\w.-]$|^[\w.-]$",
        description="1 to 100 letters, digits, dots, dashes and inner spaces.",
        examples=["bi"],
    ),
]
Scopes = Annotated[
    tuple[Scope, ...],
    Field(min_length=1, description="What its key may be used for."),
    AfterValidator(_once_each),
]
Grants = Annotated[
    tuple[GrantSpec, ...],
    Field(
        max_length=1000, description="Where it may export; a grant that names the workspace goes before `*`."
    ),
    AfterValidator(_one_for_each_workspace),
]
MaxQueued = Annotated[
    int | None,
    Field(
        strict=True, ge=1, le=MOST_INT, description="Exports it may have queued at a time; null for no limit."
    ),
]
MaxStoredBytes = Annotated[
    int | None,
    Field(
        strict=True, ge=1, le=MOST_BYTES, description="Bytes its files may take up here; null for no limit."
    ),
]
RetentionDays = Annotated[
    int | None,
    Field(
        strict=True,
        ge=1,
        le=MOST_DAYS,
        description="Days for which files archived from now on are kept; null for the workspace's wish or, "
        "if there is none either, the service's own.",
    ),
]
DefaultWorkspace = Annotated[
    str | None,
    Field(
        pattern=GID,
        description="Workspace of graph exports asked for at `/api/1.0` without naming one; null to have it "
        "found by their parent.",
    ),
]


class ClientSpec(BaseModel):
    """What an administrator decides about a client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    scopes: Scopes
    grants: Grants = (GrantSpec(),)
    max_queued: MaxQueued = None
    max_stored_bytes: MaxStoredBytes = None
    retention_days: RetentionDays = None
    default_workspace: DefaultWorkspace = None


class ClientChanges(BaseModel):
    """What is to be changed of a client; what is left out stays (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # By factories, which the schema does not show: there are no defaults, what is left out stays.
    name: Name = Field(default_factory=str)
    scopes: Scopes = Field(default_factory=tuple)
    grants: Grants = Field(default_factory=tuple)
    max_queued: MaxQueued = Field(default_factory=lambda: None)
    max_stored_bytes: MaxStoredBytes = Field(default_factory=lambda: None)
    retention_days: RetentionDays = Field(default_factory=lambda: None)
    default_workspace: DefaultWorkspace = Field(default_factory=lambda: None)


async def create_client(session: AsyncSession, spec: ClientSpec, cause: Cause) -> tuple[Client, str]:
    """Enter a client; returns it and its key, never seen again.

    Raises `ProblemError` `conflict` when there is a client of that name.
    """
    client = Client(
        id=new_client_id(),
        name=spec.name,
        scopes=[str(scope) for scope in spec.scopes],
        grants=[_grant(grant) for grant in spec.grants],
        max_queued=spec.max_queued,
        max_stored_bytes=spec.max_stored_bytes,
        retention_days=spec.retention_days,
        default_workspace=spec.default_workspace,
    )
    key = _new_key(client)
    session.add(client)
    await _flush(session, spec.name)
    await session.refresh(client)
    await _audit(session, EventType.CLIENT_CREATED, client, cause, spec.model_dump(mode="json"))
    return client, key


async def change_client(
    session: AsyncSession, client_id: ClientId, changes: ClientChanges, cause: Cause
) -> Client:
    """Change what is given. Raises `ProblemError`: `not-found`, `conflict` for a name that is taken."""
    client = await client_by_id(session, client_id, lock=True)
    given = changes.model_dump(exclude_unset=True)
    for name in given.keys() - {"grants"}:
        setattr(client, name, [*given[name]] if name == "scopes" else given[name])
    if "grants" in given:
        client.grants.clear()
        await _flush(session, client.name)
        client.grants.extend(_grant(grant) for grant in changes.grants)
    await _flush(session, client.name)
    await _audit(
        session,
        EventType.CLIENT_CHANGED,
        client,
        cause,
        changes.model_dump(mode="json", exclude_unset=True),
    )
    return client


async def replace_key(session: AsyncSession, client_id: ClientId, cause: Cause) -> tuple[Client, str]:
    """Give a client another key; the old one opens nothing from now on. A revoked client is let in again."""
    client = await client_by_id(session, client_id, lock=True)
    key, client.revoked_at = _new_key(client), None
    await session.flush()
    await _audit(session, EventType.CLIENT_KEY_REPLACED, client, cause, {})
    return client, key


async def revoke_client(session: AsyncSession, client_id: ClientId, cause: Cause) -> Client:
    """Let its key open nothing from now on; what it has asked for goes on. Raises `ProblemError`."""
    client = await client_by_id(session, client_id, lock=True)
    if client.revoked_at is None:
        client.revoked_at = func.now()
        await session.flush()
        await session.refresh(client)
        await _audit(session, EventType.CLIENT_REVOKED, client, cause, {})
    return client


async def client_by_id(session: AsyncSession, client_id: ClientId, *, lock: bool = False) -> Client:
    """The client, revoked or not. Raises `ProblemError` `not-found`."""
    client = await session.get(Client, client_id, with_for_update=NO_KEY_UPDATE if lock else None)
    if client is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no client {client_id}.")
    return client


async def client_by_name(session: AsyncSession, name: str) -> Client | None:
    """The client of that name, revoked or not."""
    return await session.scalar(select(Client).where(Client.name == name))


async def all_clients(session: AsyncSession) -> Sequence[Client]:
    """In order of making."""
    return (await session.scalars(select(Client).order_by(Client.id))).all()


async def client_by_key(session: AsyncSession, key: str) -> Client | None:
    """The client whose key this is, unless it has been revoked."""
    prefix, _, rest = key.partition("_")
    client_id, _, secret = rest.partition("_")
    found = await session.scalars(ONE_WITH_GRANTS, {"id": f"cli_{client_id}"})
    client = found.unique().one_or_none()
    # The comparison takes the same time whether the client exists or not, and wherever the hashes differ.
    fits = hmac.compare_digest(client.key_hash if client else bytes(32), _hash(secret))
    return client if client and fits and prefix == PREFIX and client.revoked_at is None else None


def still_let_in(client: Client, now: Client | None) -> Client | None:
    """The client as it is now, unless the key it once came with has been revoked or replaced."""
    return now if now and now.revoked_at is None and now.key_hash == client.key_hash else None


async def note_use(session: AsyncSession, client: Client) -> None:
    """Keep the time of last use, to the minute: a write at every request would be too many."""
    if client.last_used_at and datetime.now(UTC) - client.last_used_at < LAST_USE_TO:
        return
    await session.execute(
        update(Client)
        .where(
            Client.id == client.id,
            or_(Client.last_used_at.is_(None), Client.last_used_at < func.now() - LAST_USE_TO),
        )
        .values(last_used_at=func.now())
        .execution_options(synchronize_session=False)
    )


async def any_client(session: AsyncSession) -> bool:
    """Whether there is a client at all."""
    return await session.scalar(select(Client.id).limit(1)) is not None


def _new_key(client: Client) -> str:
    secret = secrets.token_urlsafe(32)
    client.key_hash = _hash(secret)
    return f"{PREFIX}_{client.id.removeprefix('cli_')}_{secret}"


def _grant(spec: GrantSpec) -> Grant:
    return Grant(
        workspace=spec.workspace,
        kinds=[str(kind) for kind in spec.kinds],
        highest_priority=spec.highest_priority,
        max_queued=spec.max_queued,
    )


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        if "clients_name_key" not in str(error.orig):
            raise
        raise ProblemError(Code.CONFLICT, f"There is a client named {name!r} already.") from None


async def _audit(session: AsyncSession, kind: EventType, client: Client, cause: Cause, data: Json) -> None:
    await audit(session, kind, cause, data={"client": client.id, "name": client.name, **data})


def _hash(secret: str) -> bytes:
    # The secret holds 256 random bits, so that a slow hash would add nothing.
    return sha256(secret.encode()).digest()
