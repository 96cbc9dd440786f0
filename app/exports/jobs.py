"""Exports under the names that Asana's API gives them: a job, and the export that it makes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ForeignKey, Row, Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from app.access.idempotency import TAKE_TURN
from app.access.models import Client, Kind
from app.artifacts.models import Artifact
from app.database.base import Base, BigInt
from app.exports.accept import Rules, Submission, accept
from app.exports.models import Export, Run, Status
from app.ids import ArtifactId, ExportId, new_job_gid
from app.problems import Code, ProblemError

MOST_GID = 2**63 - 1


class JobGid(Base):
    """The gid of the job that stands for an export. The next one names what the job makes."""

    __tablename__ = "job_gids"

    gid: Mapped[BigInt] = mapped_column(primary_key=True, autoincrement=False)
    export: Mapped[ExportId] = mapped_column(ForeignKey("exports.id", ondelete="CASCADE"), unique=True)


@dataclass(frozen=True)
class Job:
    """An export as a job. Its data are as of between `since` and `to`."""

    gid: str
    made_gid: str
    kind: Kind
    status: Status
    since: datetime
    to: datetime | None
    artifact: ArtifactId | None


JOBS: Select[JobGid, Export, Run, Artifact] = (
    select(JobGid, Export, Run, Artifact)
    .join(Export, Export.id == JobGid.export)
    .join(Run, Run.id == Export.run)
    .outerjoin(Artifact, Artifact.run == Run.id)
)


async def start_job(session: AsyncSession, client: Client, wanted: Submission, rules: Rules) -> ExportId:
    """Accept an export that has a job, see `accept`; for a graph, return the client's own one of the same
    parent that has not ended, as Asana does."""
    if running := await _same_graph(session, client, wanted):
        return running
    export = await accept(session, client, wanted, rules)
    session.add(JobGid(gid=new_job_gid(), export=export.id))
    await session.flush()
    return export.id


async def _same_graph(session: AsyncSession, client: Client, wanted: Submission) -> ExportId | None:
    request = wanted.request
    if request.kind is not Kind.GRAPH:
        return None
    parent = request.for_asana()["parent"]
    # Of two who ask at once, the second finds what the first has made.
    await session.execute(TAKE_TURN, {"what": f"{client.id} graph {parent}"})
    running: ExportId | None = await session.scalar(
        select(Export.id)
        .join(JobGid, JobGid.export == Export.id)
        .where(
            Export.client == client.id,
            Export.kind == Kind.GRAPH,
            Export.request["parent"].astext == parent,
            Export.workspace == request.workspace,
            Export.finished_at.is_(None),
            # One that is given up shall not be all that comes of it.
            Export.status != Status.CANCELING,
        )
        .limit(1)
    )
    return running


async def job_of(session: AsyncSession, export: ExportId) -> Job:
    """The job of an export that has one."""
    return _job((await session.execute(JOBS.where(JobGid.export == export))).one())


async def job_by_gid(session: AsyncSession, client: Client, gid: str) -> Job:
    """A job of the client's own. Raises `ProblemError` `not-found`, for those of others too."""
    found = None
    if int(gid) <= MOST_GID:
        mine = JOBS.where(JobGid.gid == int(gid), Export.client == client.id)
        found = (await session.execute(mine)).one_or_none()
    if found is None:
        raise ProblemError(Code.NOT_FOUND, f"job: Unknown object: {gid}")
    return _job(found)


def _job(row: Row[JobGid, Export, Run, Artifact]) -> Job:
    export, run = row.Export, row.Run
    has_file = export.status is Status.SUCCEEDED
    return Job(
        gid=str(row.JobGid.gid),
        made_gid=str(row.JobGid.gid + 1),
        kind=export.kind,
        status=export.status,
        since=(run.data_from if has_file else None) or export.created_at,
        to=(run.data_to if has_file else None) or export.finished_at,
        artifact=row.Artifact.id if has_file else None,
    )
