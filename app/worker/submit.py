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
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.uninterrupted import uninterrupted
from app.worker.upstream import NotInWorkspace

# How old the database's word may be that the lane is ours and the run still wanted.
FRESH_SECONDS = 1.0

WHILE_ANOTHER_WAS_TAKEN = (
    "Asana refused this export, and took one by another credential right after: the slot was not the reason."
)
NEVER_TAKEN = (
    "Asana has refused this export for as long as we try, and never took one of the kind by its credential."
)

log = structlog.get_logger()


@dataclass(frozen=True)
class Refusal:
    """A run that Asana did not take, and when."""

    run: Run
    at: float


async def submit(ctx: Context, lane: HeldLane, run: Run, refused: Sequence[Refusal] = ()) -> Run | None:
    """Ask Asana to start the run; returns what holds the slot then, with its job, or None if nothing does.

    A 403 is never decided by its text, which Asana does not document: the run goes back to its place and the
    lane probes, in the end with runs of other credentials right after the `refused` ones. A call whose answer
    was lost is made again: for a graph Asana returns the same job, for a resource export it refuses while the
    first one is in progress, so that at most one job runs in vain.
    """
    tries = 0
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
            started = await uninterrupted(_start(ctx, lane, run))
            for refusal in refused:
                # Minutes later the slot may have become free, which would say nothing of the refusal.
                if not tries and calling_at - refusal.at < FRESH_SECONDS:
                    await _forbid(ctx, lane, refusal.run, WHILE_ANOTHER_WAS_TAKEN)
            return started
        except (OutcomeUnknown, Unavailable) as error:
            log.warning("run.submit_unanswered", run=run.id, error=f"{type(error).__name__}: {error}")
            phase = Phase.SUBMIT_UNKNOWN if isinstance(error, OutcomeUnknown) else phase
        except Forbidden as error:
            log.info("run.submit_forbidden", run=run.id, error=str(error))
            return await _forbidden(ctx, lane, run, refused)
        except (AsanaError, NotInWorkspace) as error:
            log.info("run.submit_refused", run=run.id, error=f"{type(error).__name__}: {error}")
            await _refused(ctx, lane, run, error)
            return None
        await ctx.clock.sleep(ctx.backoff(tries))
        tries += 1


async def _forbidden(ctx: Context, lane: HeldLane, run: Run, before: Sequence[Refusal]) -> Run | None:
    refused = [*before, Refusal(run, ctx.clock.monotonic())]
    others = [refusal.run for refusal in before]
    if other := await ctx.write(slot_refused, lane, run.id, ctx.until_probe, before=others):
        return await submit(ctx, lane, other, refused)
    if await ctx.write(never_admitted, run, ctx.settings.forbidden_after_seconds):
        await _forbid(ctx, lane, run, NEVER_TAKEN)
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


async def _start(ctx: Context, lane: HeldLane, run: Run) -> Run:
    job = await ctx.upstream.start(run, ready=ctx.lease.check)
    export = job.export.gid if job.export else None
    started = await ctx.write(submitted, lane, run.id, job.gid, export)
    log.info("run.submitted", run=run.id, lane=lane.key, job=job.gid, attempt=run.attempt)
    return started
