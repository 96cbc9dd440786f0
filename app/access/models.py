"""Who may ask for what: clients and their grants, credentials and the workspaces they open."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, LargeBinary, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.database.base import Base, BigInt, Encrypted, Json, one_of
from app.ids import ClientId, CredentialId


class Scope(StrEnum):
    """What an API key may be used for.

    `exports:write` asks for exports and cancels them, `exports:read` follows them, `artifacts:read` downloads
    their files, `lanes:admin` pauses, drains and resumes queues, `metrics:read` is for Prometheus, `admin`
    includes all others and manages clients, workspaces and credentials.
    """

    EXPORTS_WRITE = "exports:write"
    EXPORTS_READ = "exports:read"
    ARTIFACTS_READ = "artifacts:read"
    LANES_ADMIN = "lanes:admin"
    METRICS_READ = "metrics:read"
    ADMIN = "admin"


class Kind(StrEnum):
    """The two exports Asana offers: `resource` for all tasks, teams or messages of a workspace, `graph` for a
    goal, team, portfolio or project and what is below it.
    """

    RESOURCE = "resource"
    GRAPH = "graph"


class Priority(StrEnum):
    """Class of an export: `urgent` goes before `high`, `normal` and `low`. One that waits rises by a class
    every two hours.
    """

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return list(Priority).index(self)


class CredentialState(StrEnum):
    """`valid` until Asana refuses the token: then `invalid`, until another one is stored."""

    VALID = "valid"
    INVALID = "invalid"


ALL_WORKSPACES = "*"


class Client(Base):
    """An internal caller. Of its API key only a hash is kept.

    `default_workspace` is that of its graph exports that name none; where it has no grant for it, they are
    refused like any other.
    """

    __tablename__ = "clients"

    id: Mapped[ClientId] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]]
    max_queued: Mapped[int | None]
    max_stored_bytes: Mapped[BigInt | None]
    retention_days: Mapped[int | None]
    default_workspace: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    grants: Mapped[list["Grant"]] = relationship(lazy="selectin", cascade="all, delete-orphan")

    @property
    def actor(self) -> str:
        """What the event log calls it."""
        return f"client:{self.name}"

    @property
    def has_quotas(self) -> bool:
        limits = (self.max_queued, self.max_stored_bytes, *(grant.max_queued for grant in self.grants))
        return any(limit is not None for limit in limits)

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def grant_for(self, workspace: str, kind: Kind) -> "Grant | None":
        """The grant that covers a workspace and kind, the one that names the workspace first."""
        fitting = [g for g in self.grants if g.workspace in (workspace, ALL_WORKSPACES) and kind in g.kinds]
        return min(fitting, key=lambda grant: grant.workspace == ALL_WORKSPACES, default=None)

    @property
    def sees_all_workspaces(self) -> bool:
        return self.may(Scope.ADMIN) or ALL_WORKSPACES in self.workspaces

    @property
    def workspaces(self) -> set[str]:
        """Gids of the workspaces the client has a grant for; `*` among them stands for all."""
        return {grant.workspace for grant in self.grants}


class Grant(Base):
    """A workspace (`*` for all), the kinds of export and the highest priority a client may use there."""

    __tablename__ = "grants"

    client: Mapped[ClientId] = mapped_column(ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True)
    workspace: Mapped[str] = mapped_column(primary_key=True)
    kinds: Mapped[list[str]]
    highest_priority: Mapped[Priority] = mapped_column(one_of(Priority, "highest_priority"))
    max_queued: Mapped[int | None]

    @property
    def covers_all(self) -> bool:
        return self.workspace == ALL_WORKSPACES


class Credential(Base):
    """An Asana token, encrypted, and what is known of it."""

    __tablename__ = "credentials"

    id: Mapped[CredentialId] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    token: Mapped[bytes] = mapped_column(Encrypted)
    state: Mapped[CredentialState] = mapped_column(one_of(CredentialState, "state"))
    invalid_since: Mapped[datetime | None]
    limited_until: Mapped[datetime | None]
    asana_user: Mapped[str]
    asana_user_name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Workspace(Base):
    """An Asana workspace and the credential that exports it; a removed one takes no exports.

    `retention_days` is how long files are kept of clients who have no wish of their own.
    """

    __tablename__ = "workspaces"

    gid: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    credential: Mapped[CredentialId] = mapped_column(ForeignKey("credentials.id"), index=True)
    retention_days: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    removed_at: Mapped[datetime | None]


class SigningKey(Base):
    """A pair of Ed25519 keys that receipts are signed with; `id` is the thumbprint of the public one.

    Signed is with the newest. Public keys are kept for ever, since receipts are.
    """

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    public: Mapped[Json]
    private: Mapped[bytes] = mapped_column(Encrypted)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


# Whose eyes see all: the service's own.
EVERYBODY = Client(name="everybody", scopes=[Scope.ADMIN], grants=[])
