"""Runs that several exports share: the same work is not done twice for those who may see the same."""

from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any

import rfc8785
from sqlalchemy import Select, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Credential, Kind
from app.artifacts.models import Artifact, ArtifactState
from app.exports.models import Export, Run, Status
from app.exports.states import FINAL

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


def joinable(fingerprint: str, max_age: int) -> Select[Run]:
    """Runs that an export may join: queued ones, and those that Asana began within `max_age` seconds.

    For a graph Asana may answer from a cache of four hours: what counts is the time of its data.
    """
    began = func.least(Run.submitted_at, func.coalesce(Run.data_from, Run.submitted_at))
    has_file = (
        select(Artifact.id)
        .where(
            Artifact.run == Run.id,
            Artifact.state == ArtifactState.AVAILABLE,
            Artifact.expires_at > func.now(),
        )
        .exists()
    )
    fresh = and_(
        began >= func.now() - timedelta(seconds=max_age),
        or_(
            Run.status.in_([Status.RUNNING, Status.ARCHIVING]), and_(Run.status == Status.SUCCEEDED, has_file)
        ),
    )
    is_queued = Run.status == Status.QUEUED
    return (
        select(Run)
        .where(Run.fingerprint == fingerprint, or_(is_queued, fresh) if max_age else is_queued)
        .order_by(FURTHEST_FIRST, Run.id.desc())
        .limit(1)
    )


async def members(session: AsyncSession, run: Run) -> Sequence[Export]:
    """The exports that wait for the run."""
    waiting = select(Export).where(Export.run == run.id, Export.status.not_in(FINAL))
    return (await session.scalars(waiting)).all()
