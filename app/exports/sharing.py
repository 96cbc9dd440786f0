"""Runs that several exports share: the same work is not done twice for those who may see the same."""

from hashlib import sha256
from typing import Any

import rfc8785
from sqlalchemy import Double, and_, bindparam, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Credential, Kind
from app.artifacts.models import IS_KEPT, Artifact
from app.exports.models import Export, Run, Status
from app.exports.states import FINAL

MOST_MEMBERS = 1000

# The further a run has come, the sooner an export that joins it is done.
FURTHEST_FIRST = case(
    {Status.SUCCEEDED: 0, Status.ARCHIVING: 1, Status.RUNNING: 2, Status.QUEUED: 3}, value=Run.status
)


def fingerprint(kind: Kind, workspace: str, canonical_request: dict[str, Any], credential: Credential) -> str:
    """Alike for requests whose results are the same for all who may make them.

    Asana trims what it exports to what the token's account may see, so that another credential, or another
    account behind the same one, makes another result.
    """
    what: dict[str, Any] = {
        "kind": str(kind),
        "workspace": workspace,
        "request": canonical_request,
        "credential": credential.id,
        "account": credential.asana_user,
    }
    return sha256(rfc8785.dumps(what)).hexdigest()


# For a graph Asana may answer from a cache of four hours: what counts is the time of its data.
BEGAN = func.least(Run.submitted_at, func.coalesce(Run.data_from, Run.submitted_at))
HAS_FILE = (
    select(Artifact.id).where(Artifact.run == Run.id, IS_KEPT, Artifact.missing_since.is_(None)).exists()
)
BEGUN = and_(
    func.now() - func.make_interval(0, 0, 0, 0, 0, 0, bindparam("max_age", type_=Double)) <= BEGAN,
    or_(Run.status.in_([Status.RUNNING, Status.ARCHIVING]), and_(Run.status == Status.SUCCEEDED, HAS_FILE)),
)
# One that very many wait for takes no more: its steps are one transaction each.
HAS_ROOM = (
    select(func.count())
    .where(Export.run == Run.id, Export.status.not_in(FINAL))
    .correlate(Run)
    .scalar_subquery()
    < MOST_MEMBERS
)
ALIKE = select(Run).where(Run.fingerprint == bindparam("fingerprint"), HAS_ROOM).limit(1)
QUEUED_ALIKE = ALIKE.where(Run.status == Status.QUEUED)
ANY_ALIKE = ALIKE.where(or_(Run.status == Status.QUEUED, BEGUN)).order_by(FURTHEST_FIRST, Run.id.desc())
LOCKED_QUEUED, LOCKED_ANY = (
    each.with_for_update(of=Run).execution_options(populate_existing=True)
    for each in (QUEUED_ALIKE, ANY_ALIKE)
)
OTHERS = (
    select(Export.id)
    .where(Export.run == bindparam("run"), Export.id != bindparam("export"), Export.status.not_in(FINAL))
    .limit(1)
)


async def joinable(
    session: AsyncSession, fingerprint: str, max_age: int, *, lock: bool = False
) -> Run | None:
    """A run that an export may join: a queued one, or one that Asana began within `max_age` seconds."""
    queued, any_alike = (LOCKED_QUEUED, LOCKED_ANY) if lock else (QUEUED_ALIKE, ANY_ALIKE)
    statement = any_alike if max_age else queued
    run: Run | None = await session.scalar(statement, {"fingerprint": fingerprint, "max_age": max_age})
    return run


async def wanted_by_others(session: AsyncSession, export: Export) -> bool:
    """Whether other exports wait for the same run."""
    return await session.scalar(OTHERS, {"run": export.run, "export": export.id}) is not None
