"""Starting a run at Asana, where the answer may be a no, a not yet, or never come."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from app.asana.errors import (
    AsanaError,
    Forbidden,
    NotAuthorized,
    OutcomeUnknown,
    PlanRequired,
    RateLimited,
    Unavailable,
)
from app.exports.forbidden import forbid, never_admitted, slot_refused
from app.exports.models import Phase, Run
from app.exports.runs import about_to_submit, fail_run, put_back, submitted
from app.lanes.claim import HeldLane
from app.lanes.models import WaitReason
from app.metrics import SUBMIT_UNKNOWN
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.uninterrupted import uninterrupted
from app.worker.upstream import NotInWorkspace

# How old the database's word may be that the lane is ours and the run still wanted.
FRESH_SECONDS = 1.0
# Within how much time a yes to another run shows what a no was about: enough for two calls of Asana.
CONVINCING_SECONDS = 2.0

WHILE_ANOTHER_WAS_TAKEN = (
    "Asana refused this export, and took one by another credential right after: the slot was not the reason."
)
NEVER_TAKEN = (
    "Asana has refused this export for as long as we try, and never took one of the kind by its credential."
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Refusal:
    """A run that Asana did not take, and when it was asked, at the earliest."""

    run: Run
    asked_at: float


async def submit(ctx: Context, lane: HeldLane, run: Run, refused: Sequence[Refusal] = ()) -> Run | None:
    """Ask Asana to start the run; returns what holds the slot then, with its job, or None if nothing does.

    A 403 is never decided by its text, which Asana does not document: the run goes back to its place and the
    lane probes, in the end with runs of other credentials right after the `refused` ones. A call whose answer
    was lost is made again: for a graph Asana returns the same job, for a resource export it refuses while the
    first one is in progress, so that at most one job runs in vain.
    """
    tries, calling_at = 0, ctx.clock.monotonic()
    phase = run.phase or Phase.SUBMITTING
    while True:
        asked_at = ctx.clock.monotonic()
        if (held := await ctx.upstream.held_for(run.credential)) > 0:
            await ctx.write(put_back, lane, run.id, WaitReason.RATE_LIMITED, held)
            return None
        try:
            await ctx.upstream.check_place(run)
            is_fresh = not tries and ctx.clock.monotonic() - asked_at < FRESH_SECONDS
            if not is_fresh and not await ctx.write(about_to_submit, lane, run.id, phase):
                return None
            calling_at = ctx.clock.monotonic()
            started, answered_at = await uninterrupted(_start(ctx, lane, run))
            for refusal in refused:
                # Later the slot may have become free meanwhile, which would say nothing of the refusal.
                if not tries and answered_at - refusal.asked_at < CONVINCING_SECONDS:
                    await _forbid(ctx, lane, refusal.run, WHILE_ANOTHER_WAS_TAKEN)
            return started
        except (OutcomeUnknown, Unavailable) as error:
            log.warning("run.submit_unanswered", run=run.id, error=f"{type(error).__name__}: {error}")
            if isinstance(error, OutcomeUnknown):
                SUBMIT_UNKNOWN.inc()
                phase = Phase.SUBMIT_UNKNOWN
        except Forbidden as error:
            log.info("run.submit_forbidden", run=run.id, error=str(error))
            return await _forbidden(ctx, lane, [*refused, Refusal(run, calling_at)])
        except (AsanaError, NotInWorkspace) as error:
            log.info("run.submit_refused", run=run.id, error=f"{type(error).__name__}: {error}")
            await _refused(ctx, lane, run, error)
            return None
        await ctx.clock.sleep(ctx.backoff(tries))
        tries += 1


async def _forbidden(ctx: Context, lane: HeldLane, refused: Sequence[Refusal]) -> Run | None:
    *before, run = (refusal.run for refusal in refused)
    if other := await ctx.write(slot_refused, lane, run.id, ctx.until_probe, before=before):
        return await submit(ctx, lane, other, refused)
    for each in (*before, run):
        if await ctx.write(never_admitted, each, ctx.settings.forbidden_after_seconds):
            await _forbid(ctx, lane, each, NEVER_TAKEN)
    return None


async def _forbid(ctx: Context, lane: HeldLane, run: Run, detail: str) -> None:
    log.warning("credential.forbidden", lane=lane.key, credential=run.credential, kind=run.kind)
    while await ctx.write(forbid, lane, run, detail):
        pass


async def _refused(ctx: Context, lane: HeldLane, run: Run, refusal: Exception) -> None:
    match refusal:
        case RateLimited():
            await ctx.write(put_back, lane, run.id, WaitReason.RATE_LIMITED, refusal.retry_after)
        case NotAuthorized():
            await ctx.write(put_back, lane, run.id, WaitReason.CREDENTIAL_INVALID)
        case NotInWorkspace():
            await ctx.write(fail_run, lane, run.id, Problem(Code.PARENT_NOT_IN_WORKSPACE, str(refusal)))
        case PlanRequired():
            problem = Problem(Code.UPSTREAM_FORBIDDEN, f"Asana answered: {refusal}")
            await ctx.write(fail_run, lane, run.id, problem)
        case _:
            problem = Problem(Code.UPSTREAM_REJECTED, f"Asana answered: {refusal}")
            await ctx.write(fail_run, lane, run.id, problem)


async def _start(ctx: Context, lane: HeldLane, run: Run) -> tuple[Run, float]:
    job = await ctx.upstream.start(run, ready=ctx.lease.check)
    answered_at = ctx.clock.monotonic()
    export = job.export.gid if job.export else None
    started = await ctx.write(submitted, lane, run.id, job.gid, export)
    return started, answered_at
