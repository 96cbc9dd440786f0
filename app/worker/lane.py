"""A lane's story: its runs, one after the other."""

import structlog
from structlog.contextvars import bound_contextvars

from app.exports.models import Run
from app.exports.runs import HeldArchive, fail_run, free_slot, next_run, try_again_later
from app.lanes.claim import HeldLane
from app.traces import span, waited
from app.worker.archive import Archiving
from app.worker.context import Context
from app.worker.poll import Succeeded, Unsuccessful, poll
from app.worker.submit import submit

log = structlog.get_logger()


async def serve(ctx: Context, lane: HeldLane, archiving: Archiving) -> None:
    """Run the exports of one lane until none is ready. Raises `LaneLost` when it is no longer ours."""
    pause = ctx.settings.probe_max_seconds
    while run := await ctx.write(next_run, lane, credential_wait=pause):
        with bound_contextvars(run=run.id), span("run", of=run.traceparent, run=run.id, lane=lane.key):
            await _bring_to_its_end(ctx, lane, run, archiving)


async def _bring_to_its_end(ctx: Context, lane: HeldLane, run: Run, archiving: Archiving) -> None:
    started = run if run.asana_job else await submit(ctx, lane, run)
    if started is None:
        return
    if not run.asana_job:
        waited("queued", of=started.traceparent, since=started.queued_at)
    match await poll(ctx, lane, started):
        case Succeeded() as done:
            if archive := await _to_archive(ctx, lane, started, done, here=archiving.free > 0):
                archiving.start(archive)
        case Unsuccessful() as ended:
            await _try_again_or_fail(ctx, lane, started, ended)


async def _to_archive(
    ctx: Context, lane: HeldLane, run: Run, done: Succeeded, *, here: bool
) -> HeldArchive | None:
    """Free the slot first: the next run starts while the file of this one is fetched, by us or by others."""
    export = done.job.export
    return await ctx.write(
        free_slot,
        lane,
        run.id,
        data_from=export.created_at if export else None,
        data_to=export.completed_at if export else None,
        warnings=done.warnings,
        archive_here=here,
    )


async def _try_again_or_fail(ctx: Context, lane: HeldLane, run: Run, ended: Unsuccessful) -> None:
    if ended.again and run.attempt < ctx.settings.max_attempts:
        pause = ctx.backoff(run.attempt - 1)
        log.warning(
            "run.attempt_failed", run=run.id, attempt=run.attempt, code=ended.problem.code, pause=pause
        )
        await ctx.write(try_again_later, lane, run.id, pause)
    else:
        await ctx.write(fail_run, lane, run.id, ended.problem)
