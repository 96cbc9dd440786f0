"""Starting a run at Asana, where the answer may be a no, a not yet, or never come."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

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
from app.worker.upstream import NotInWorkspace

T = TypeVar("T")
# How old the database's word may be that the lane is ours and the run still wanted.
FRESH_SECONDS = 1.0

WHILE_ANOTHER_WAS_TAKEN = (
    "Asana refused this export, and took one by another credential right after: the slot was not the reason."
)
NEVER_TAKEN = (
    "Asana has refused this export for as long as we try, and never took one of the kind by its credential."
)

log = structlog.get_logger()


async def submit(ctx: Context, lane: HeldLane, run: Run, instead_of: Run | None = None) -> Run | None:
    """Ask Asana to start the run; returns what holds the slot then, with its job, or None if nothing does.

    A 403 is never decided by its text, which Asana does not document: the run goes back to its place and the
    lane probes, in the end with a run of another credential `instead_of` the refused one. A call whose answer
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
            started = await _uninterrupted(_start(ctx, lane, run))
            if instead_of:
                await _forbid(ctx, lane, instead_of, WHILE_ANOTHER_WAS_TAKEN)
            return started
        except (OutcomeUnknown, Unavailable) as error:
            log.warning("run.submit_unanswered", run=run.id, error=f"{type(error).__name__}: {error}")
            phase = Phase.SUBMIT_UNKNOWN if isinstance(error, OutcomeUnknown) else phase
        except Forbidden as refusal:
            log.info("run.submit_forbidden", run=run.id, error=str(refusal))
            return await _forbidden(ctx, lane, run, is_second=instead_of is not None)
        except (AsanaError, NotInWorkspace) as refusal:
            log.info("run.submit_refused", run=run.id, error=f"{type(refusal).__name__}: {refusal}")
            await _refused(ctx, lane, run, refusal)
            return None
        await ctx.clock.sleep(ctx.backoff(tries))
        tries += 1


async def _forbidden(ctx: Context, lane: HeldLane, run: Run, *, is_second: bool) -> Run | None:
    other = await ctx.write(slot_refused, lane, run.id, ctx.until_probe, ask_another=not is_second)
    if other:
        return await submit(ctx, lane, other, instead_of=run)
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


async def _uninterrupted(step: Coroutine[Any, Any, T]) -> T:
    """Finish a step though the process is told to stop: between the call and the commit of its job lies the
    one moment in which an interruption would leave a job that nobody knows."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        log.info("run.interrupted_after_submit", outcome=repr(task.exception() or "done"))
        raise
