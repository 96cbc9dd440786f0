"""Limits that are checked before accepting; what is accepted is never dropped for them."""

from dataclasses import dataclass

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Grant, Kind
from app.artifacts.models import IS_KEPT, Artifact, OutputFile
from app.exports.models import Export, Run, Status
from app.ids import LaneKey
from app.problems import Code, ProblemError

RETRY_AFTER = 60
QUEUED_OF_CLIENT = select(func.count()).where(
    Export.client == bindparam("client"), Export.status == Status.QUEUED
)
QUEUED_OF_CLIENT_HERE = QUEUED_OF_CLIENT.where(Export.workspace == bindparam("workspace"))
QUEUED_IN_LANE = (
    select(func.count()).select_from(Run).where(Run.lane == bindparam("lane"), Run.status == Status.QUEUED)
)
# Of files that are kept, with what was made of them. Those that have ended count no more, though their bytes
# go later: their clients can do nothing about that.
STORED_BYTES = select(
    func.sum(
        Artifact.bytes
        + select(func.coalesce(func.sum(OutputFile.bytes), 0))
        .where(OutputFile.artifact == Artifact.id)
        .scalar_subquery()
    )
).where(
    Artifact.run.in_(
        select(Export.run).where(Export.client == bindparam("client"), Export.status == Status.SUCCEEDED)
    ),
    IS_KEPT,
)
ALONE = text("SELECT pg_advisory_xact_lock(hashtextextended(:client, 0))")


@dataclass(frozen=True)
class Limits:
    """How much may be queued, whoever asks; None for no limit."""

    queued_per_lane: int | None = None


@dataclass(frozen=True)
class Quota:
    """A limit of a client, and how much of it is left."""

    name: str
    limit: int
    left: int


async def check_quotas(
    session: AsyncSession, client: Client, grant: Grant, lane: LaneKey, limits: Limits
) -> None:
    """Raises `ProblemError`: `quota-exceeded` for the client, `queue-full` for the lane.

    The caller has locked the lane, and is alone with the client's limits until its transaction ends.
    """
    if client.has_quotas:
        await session.execute(ALONE, {"client": client.id})
    for quota in await quotas_of(session, client, grant):
        if quota.left <= 0:
            raise ProblemError(
                Code.QUOTA_EXCEEDED,
                f"Your quota {quota.name} of {quota.limit} is used up.",
                retry_after=RETRY_AFTER,
            )
    if limits.queued_per_lane is None:
        return
    if (await session.scalar(QUEUED_IN_LANE, {"lane": lane}) or 0) >= limits.queued_per_lane:
        detail = f"{limits.queued_per_lane} exports wait in the lane of the workspace already."
        raise ProblemError(Code.QUEUE_FULL, detail, retry_after=RETRY_AFTER)


async def quotas_for(session: AsyncSession, client: Client, workspace: str, kind: Kind) -> list[Quota]:
    """The client's quotas where it exports; none where it may not."""
    grant = client.grant_for(workspace, kind)
    return await quotas_of(session, client, grant) if grant else []


async def quotas_of(session: AsyncSession, client: Client, grant: Grant) -> list[Quota]:
    """The quotas that an export under the grant counts against."""
    quotas, mine = [], {"client": client.id}
    if client.max_queued is not None:
        used = await session.scalar(QUEUED_OF_CLIENT, mine) or 0
        quotas.append(Quota("queued", client.max_queued, client.max_queued - used))
    if grant.max_queued is not None:
        here = QUEUED_OF_CLIENT if grant.covers_all else QUEUED_OF_CLIENT_HERE
        used = await session.scalar(here, mine | {"workspace": grant.workspace}) or 0
        quotas.append(Quota("queued-in-workspace", grant.max_queued, grant.max_queued - used))
    if client.max_stored_bytes is not None:
        used = int(await session.scalar(STORED_BYTES, mine) or 0)
        quotas.append(Quota("stored-bytes", client.max_stored_bytes, client.max_stored_bytes - used))
    return quotas
