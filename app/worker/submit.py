"""Starting a run at Asana, where the answer may be a no, a not yet, or never come."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import structlog

from app.asana.errors import (
    Forbidden,
    NotAuthorized,
    OutcomeUnknown,
    PlanRequired,
    RateLimited,
    Refused,
    Unavailable,
)
from app.exports.models import Phase, Run
from app.exports.runs import about_to_submit, fail_run, put_back, slot_refused, submitted
from app.lanes.claim import HeldLane
from app.lanes.models import WaitReason
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.upstream import NotInWorkspace

T = TypeVar("T")
log = structlog.get_logger()


async def submit(ctx: Context, lane: HeldLane, run: Run) -> Run | None:
    """Ask Asana to start the run; returns it with its job, or None when it does not hold the slot after all.

    A 403 is never decided by its text, which Asana does not document: the run goes back to its place and the
    lane probes. A call whose answer was lost is made again: for a graph Asana returns the same job, for a
    resource export it refuses while the first one is in progress, so that at most one job runs in vain.
    """
    tries = 0
    phase = run.phase or Phase.SUBMITTING
    while True:
        try:
            return await _uninterrupted(_start(ctx, lane, run))
        except OutcomeUnknown as error:
            log.warning("run.submit_unknown", run=run.id, error=str(error))
            phase = Phase.SUBMIT_UNKNOWN
        except Unavailable as error:
            log.warning("run.submit_unavailable", run=run.id, error=str(error))
        except Forbidden as error:
            log.info("run.slot_refused", run=run.id, error=str(error))
            return await ctx.write(slot_refused, lane, run.id, partial(_until_probe, ctx))
        except RateLimited as error:
            return await ctx.write(put_back, lane, run.id, WaitReason.RATE_LIMITED, error.retry_after)
        except NotAuthorized:
            pause = ctx.settings.probe_max_seconds
            return await ctx.write(put_back, lane, run.id, WaitReason.CREDENTIAL_INVALID, pause)
        except NotInWorkspace as error:
            return await ctx.write(fail_run, lane, run.id, Problem(Code.PARENT_NOT_IN_WORKSPACE, str(error)))
        except (Refused, PlanRequired) as error:
            code = Code.UPSTREAM_REJECTED if isinstance(error, Refused) else Code.UPSTREAM_FORBIDDEN
            return await ctx.write(fail_run, lane, run.id, Problem(code, f"Asana answered: {error}"))
        await ctx.clock.sleep(ctx.backoff(tries))
        tries += 1
        await ctx.write(about_to_submit, lane, run.id, phase)


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


def _until_probe(ctx: Context, probes: int) -> float:
    settings = ctx.settings
    return ctx.backoff(probes, least=settings.probe_min_seconds, most=settings.probe_max_seconds)
