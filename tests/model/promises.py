"""What is known of the world without looking, and what must be so whenever one looks."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.clients import client_by_id
from app.exports.history import violations
from app.exports.models import Run, Status
from app.exports.reading import ExportFilter, ExportView, export_views
from app.exports.requests import ExportRequest
from app.exports.states import FINAL, LIVE
from app.ids import CredentialId, ExportId, RunId
from app.problems import Code
from app.worker.sweep import FLAG_FORGOTTEN_LANES
from tests.model.stage import LAST_EVENT
from tests.model.world import World

# A lane whose next run waits for nothing is free to be taken, or waits for something of its own.
IDLE = text("""
    SELECT key FROM lanes
    WHERE holder IS NULL AND paused_at IS NULL AND next_attempt_at > clock_timestamp() + interval '5 s'
      AND (wait_reason IS NULL OR wait_reason = 'credential_invalid')
      AND EXISTS (
        SELECT FROM runs JOIN credentials ON credentials.id = credential
        WHERE lane = key AND runs.status = 'queued' AND not_before <= clock_timestamp() AND state = 'valid')
""")
HELD = text("SELECT key, holder FROM lanes WHERE holder IS NOT NULL")
# What an export may fail for in this world.
FAILURES = {
    Code.UPSTREAM_FAILED,
    Code.UPSTREAM_FORBIDDEN,
    Code.ARTIFACT_CORRUPT,
    Code.QUEUE_TTL_EXCEEDED,
    Code.CREDENTIAL_REVOKED,
}
IN_PROGRESS = {"not_started", "in_progress"}


@dataclass(frozen=True)
class Accepted:
    """What an export was accepted as."""

    caller: str
    credential: CredentialId
    request: ExportRequest


@dataclass
class Promises:
    """What was promised to whom, and what was seen of it."""

    world: World
    accepted: dict[ExportId, Accepted] = field(default_factory=dict)
    ends: dict[ExportId, Status] = field(default_factory=dict)
    live: set[RunId] = field(default_factory=set)
    saved_jobs: set[str] = field(default_factory=set)
    last_event: int | None = None

    async def check(self) -> None:
        """Raises `AssertionError` where one is broken."""
        stage, world = self.world.stage, self.world
        assert not stage.faults, "\n".join(stage.faults)
        for worker in world.workers.values():
            if worker.life.done() and not worker.life.cancelled():
                worker.life.result()
        async with world.database.sessions() as session:
            await self._check_lanes(session)
            last = await session.scalar(LAST_EVENT)
            await session.rollback()
            # No export changes without an event.
            if last != self.last_event:
                self.last_event = last
                await self._check_exports(session)

    async def check_end(self) -> None:
        """Everything is over."""
        await self.check()
        assert self.ends.keys() == self.accepted.keys(), "not all came to an end"

    async def _check_lanes(self, session: AsyncSession) -> None:
        live = (await session.scalars(select(Run).where(Run.status.in_(LIVE)))).all()
        assert len({run.lane for run in live}) == len(live), "two in a lane"
        begun = [run for run in live if run.id not in self.live]
        assert not {run.lane for run in begun} & self.world.paused, "begun in a pause"
        self.live = {run.id for run in live}
        self.saved_jobs |= {run.asana_job for run in live if run.asana_job}
        self._check_jobs(live)
        holders = {worker.name: worker for worker in self.world.living() if worker.works}
        for lane in await session.execute(HELD):
            if holder := holders.get(lane.holder):
                assert holder.knows(lane.key), f"worker {holder.number} does not know of lane {lane.key}"
        assert not (await session.scalars(IDLE)).all(), "a lane idles"
        forgotten = await session.execute(FLAG_FORGOTTEN_LANES)
        assert forgotten.rowcount == 0, "a lane with work has no flag"  # type: ignore[attr-defined]
        session.expunge_all()

    async def _check_exports(self, session: AsyncSession) -> None:
        broken = [violation async for violation in violations(session, self.world.store)]
        assert not broken, "\n".join(map(str, broken))
        for name, caller in self.world.callers.items():
            client = await client_by_id(session, caller.id)
            views = await export_views(session, client, ExportFilter(), before=None, most=1000)
            own = {export for export, known in self.accepted.items() if known.caller == name}
            assert {view.export.id for view in views} == own
            for view in views:
                self._check_export(view, self.accepted[view.export.id])

    def _check_export(self, view: ExportView, known: Accepted) -> None:
        export, run = view.export, view.run
        assert (run.credential, run.workspace) == (known.credential, known.request.workspace)
        assert run.request == known.request.for_asana()
        assert view.wait_reason or export.status is not Status.QUEUED
        if export.id in self.ends or export.status in FINAL:
            assert export.status is self.ends.setdefault(export.id, export.status)
        if export.status is Status.FAILED:
            assert export.error, export.id
            assert export.error["code"] in FAILURES, export.error

    def _check_jobs(self, live: Sequence[Run]) -> None:
        """At Asana too there is one job for a lane, save for those of which an answer told that was lost."""
        stage = self.world.stage
        wanted = {run.asana_job: run for run in live}
        jobs = [job for job in self.world.jobs() if job.status in IN_PROGRESS]
        for job in jobs:
            assert job.gid in wanted or job.gid not in self.saved_jobs, f"in progress in vain: {job}"
            if run := wanted.get(job.gid):
                assert job.workspace == run.workspace
                assert self.world.credentials[job.token] == run.credential
        unsaved = [job for job in jobs if job.gid not in self.saved_jobs]
        in_hand = sum(story.has_unsaved_job for story in stage.stories)
        assert len(unsaved) <= stage.answers_lost + in_hand, f"started for nothing: {unsaved}"
