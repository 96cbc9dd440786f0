"""Endpoints: made by a client for what it may see, with a secret that is shown when it is made."""

from collections.abc import Sequence
from datetime import UTC, timedelta
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.clients import client_by_id
from app.access.models import Client, Scope
from app.access.vault import Vault
from app.database.base import Json
from app.events.log import Cause, EventType, audit
from app.events.public import PublicType
from app.ids import GID, EndpointId, new_endpoint_id
from app.problems import Code, Fault, ProblemError
from app.webhooks.models import DisabledBecause, WebhookEndpoint
from app.webhooks.signing import new_secret
from app.webhooks.targets import TargetPolicy, TargetRefused

MOST_ENDPOINTS = 20
GIVEN_UP_AT_ONCE = 1000
OLD_SECRET_LASTS = timedelta(hours=24)
RETRY_AFTER = 60

Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2000,
        pattern=r"^https?://[!-~]+$",
        description="Where to post, `https` unless this service is set to send over plain http too.",
        examples=["https://hooks.example.com/asana-exports"],
    ),
]
Description = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$", description="Yours.")]
Types = Annotated[
    tuple[PublicType, ...], Field(max_length=50, description="What to be told of; empty for everything.")
]
Workspaces = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=GID)], ...],
    Field(max_length=1000, description="Gids of workspaces; empty for all that you may see."),
]
Disabled = Annotated[bool, Field(strict=True, description="Whether nothing is to be sent.")]


class EndpointSpec(BaseModel):
    """Where to be told, and of what."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    description: Description = ""
    types: Types = ()
    workspaces: Workspaces = ()
    disabled: Disabled = False


class EndpointChanges(BaseModel):
    """What is to be changed of an endpoint; what is left out stays (RFC 7396)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # By factories, which the schema does not show: there are no defaults, what is left out stays.
    url: Url = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    types: Types = Field(default_factory=tuple)
    workspaces: Workspaces = Field(default_factory=tuple)
    disabled: Disabled = Field(default_factory=bool)


GIVE_UP_WAITING = text("""
    UPDATE webhook_deliveries AS waiting SET state = 'failed', finished_at = clock_timestamp()
    FROM (
        SELECT due.endpoint, due.event
        FROM webhook_endpoints AS receiver
        CROSS JOIN LATERAL (
            SELECT endpoint, event FROM webhook_deliveries
            WHERE endpoint = receiver.id AND state = 'pending'
            ORDER BY tries DESC, event LIMIT :most FOR UPDATE SKIP LOCKED) AS due
        WHERE receiver.disabled_at IS NOT NULL
        LIMIT :most) AS over
    WHERE (waiting.endpoint, waiting.event) = (over.endpoint, over.event)
""")


async def create_endpoint(
    session: AsyncSession,
    client: Client,
    vault: Vault,
    policy: TargetPolicy,
    spec: EndpointSpec,
    cause: Cause,
) -> WebhookEndpoint:
    """Enter an endpoint of the client's. Raises `ProblemError`."""
    _check(client, policy, spec)
    # Locked, so that of two that come at the same time the second is counted with the first.
    await client_by_id(session, client.id, lock=True)
    own = select(func.count()).where(WebhookEndpoint.client == client.id)
    if (await session.scalar(own) or 0) >= MOST_ENDPOINTS:
        detail = f"You have {MOST_ENDPOINTS} endpoints, and no client may have more."
        raise ProblemError(Code.QUOTA_EXCEEDED, detail, retry_after=RETRY_AFTER)
    endpoint = WebhookEndpoint(
        id=new_endpoint_id(),
        client=client.id,
        url=spec.url,
        description=spec.description,
        types=[*dict.fromkeys(map(str, spec.types))],
        workspaces=[*dict.fromkeys(spec.workspaces)],
        secret=vault.encrypt(new_secret()),
        disabled_at=func.clock_timestamp() if spec.disabled else None,
        disabled_because=DisabledBecause.ASKED if spec.disabled else None,
    )
    session.add(endpoint)
    await _settled(session, endpoint)
    await _audit(session, EventType.WEBHOOK_CREATED, endpoint, cause, spec.model_dump(mode="json"))
    return endpoint


async def change_endpoint(
    session: AsyncSession,
    client: Client,
    endpoint_id: EndpointId,
    policy: TargetPolicy,
    changes: EndpointChanges,
    cause: Cause,
) -> WebhookEndpoint:
    """Change what is given. One that is enabled begins anew, as if it had never failed. Raises
    `ProblemError`.
    """
    endpoint = await visible_endpoint(session, client, endpoint_id, lock=True)
    owner = client if client.id == endpoint.client else await client_by_id(session, endpoint.client)
    _check(owner, policy, changes)
    given = changes.model_dump(mode="json", exclude_unset=True)
    if "url" in given:
        forget_failures(endpoint)
    for name in given.keys() - {"disabled"}:
        value = given[name]
        setattr(endpoint, name, [*dict.fromkeys(value)] if isinstance(value, list) else value)
    if "disabled" in given and changes.disabled is not (endpoint.disabled_at is not None):
        if changes.disabled:
            await disable(session, endpoint, DisabledBecause.ASKED)
        else:
            endpoint.disabled_at = endpoint.disabled_because = None
            forget_failures(endpoint)
    endpoint.updated_at = func.clock_timestamp()
    await _settled(session, endpoint)
    await _audit(session, EventType.WEBHOOK_CHANGED, endpoint, cause, given)
    return endpoint


async def rotate_secret(
    session: AsyncSession,
    client: Client,
    vault: Vault,
    endpoint_id: EndpointId,
    cause: Cause,
    *,
    force: bool = False,
) -> WebhookEndpoint:
    """Give the endpoint another secret; the one it had signs too for a day.

    Raises `ProblemError`, `secret-rotating` within that day unless forced: the receiver may still verify by
    the secret that would end.
    """
    endpoint = await visible_endpoint(session, client, endpoint_id, lock=True)
    until, now = endpoint.previous_until, await session.scalar(select(func.now()))
    if until and now and until > now and not force:
        detail = f"The secret before the present one signs until {until.astimezone(UTC).isoformat()}."
        raise ProblemError(Code.SECRET_ROTATING, detail)
    endpoint.previous_secret, endpoint.secret = endpoint.secret, vault.encrypt(new_secret())
    endpoint.previous_until = func.clock_timestamp() + OLD_SECRET_LASTS
    await _settled(session, endpoint)
    await _audit(session, EventType.WEBHOOK_SECRET_ROTATED, endpoint, cause, {})
    return endpoint


async def delete_endpoint(
    session: AsyncSession, client: Client, endpoint_id: EndpointId, cause: Cause
) -> None:
    """Send nothing there any more, and forget what was sent. Raises `ProblemError`."""
    endpoint = await visible_endpoint(session, client, endpoint_id, lock=True)
    await session.delete(endpoint)
    await session.flush()
    await _audit(session, EventType.WEBHOOK_DELETED, endpoint, cause, {})


async def endpoints_of(session: AsyncSession, client: Client) -> Sequence[WebhookEndpoint]:
    """The client's own, an administrator's are all there are; in order of making."""
    return (await session.scalars(_visible(client).order_by(WebhookEndpoint.id))).all()


async def visible_endpoint(
    session: AsyncSession, client: Client, endpoint_id: EndpointId, *, lock: bool = False
) -> WebhookEndpoint:
    """Raises `ProblemError` `not-found` for one that the client may not see, too."""
    statement = _visible(client).where(WebhookEndpoint.id == endpoint_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    endpoint = await session.scalar(statement, execution_options={"populate_existing": True})
    if endpoint is None:
        raise ProblemError(Code.NOT_FOUND, f"There is no webhook endpoint {endpoint_id} that you may see.")
    return endpoint


async def disable(session: AsyncSession, endpoint: WebhookEndpoint, because: DisabledBecause) -> None:
    """Send nothing from now on, and give up what waits: a replay brings it, with all that is missed by then.

    The caller has locked the endpoint.
    """
    endpoint.disabled_at, endpoint.disabled_because = func.clock_timestamp(), because
    await session.flush()
    await give_up_waiting(session)


async def give_up_waiting(session: AsyncSession) -> int:
    """Give up some of what waits for endpoints that are disabled, the most often tried first; how many.

    Not all at once: a receiver that was away for long may have let hundreds of thousands wait.
    """
    given_up = await session.execute(GIVE_UP_WAITING, {"most": GIVEN_UP_AT_ONCE})
    return given_up.rowcount  # type: ignore[attr-defined,no-any-return]


def forget_failures(endpoint: WebhookEndpoint) -> None:
    """What has gone wrong so far says nothing any more."""
    endpoint.failing, endpoint.failing_since, endpoint.not_before = 0, None, None


def _check(owner: Client, policy: TargetPolicy, spec: EndpointSpec | EndpointChanges) -> None:
    """What is wrong with a wish beyond its form; all of it at once."""
    faults = []
    if "url" in spec.model_fields_set:
        try:
            policy.check_url(httpx.URL(spec.url))
        except (TargetRefused, httpx.InvalidURL, UnicodeError) as error:
            faults.append(Fault("/url", str(error)))
    if not owner.sees_all_workspaces:
        faults += [
            Fault(f"/workspaces/{place}", f"there is no grant for the workspace {gid}")
            for place, gid in enumerate(spec.workspaces)
            if gid not in owner.workspaces
        ]
    if faults:
        raise ProblemError(Code.VALIDATION_FAILED, "The endpoint has faults.", tuple(faults))


def _visible(client: Client) -> Select[WebhookEndpoint]:
    statement = select(WebhookEndpoint)
    return statement if client.may(Scope.ADMIN) else statement.where(WebhookEndpoint.client == client.id)


async def _settled(session: AsyncSession, endpoint: WebhookEndpoint) -> None:
    await session.flush()
    await session.refresh(endpoint)


async def _audit(
    session: AsyncSession, kind: EventType, endpoint: WebhookEndpoint, cause: Cause, data: Json
) -> None:
    await audit(session, kind, cause, data=endpoint.facts | data)
