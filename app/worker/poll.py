"""Waiting for a job at Asana. Looking writes nothing to the database; only a change of state does."""

import math
from dataclasses import dataclass, field

import structlog

from app.asana.errors import (
    Forbidden,
    NotAuthorized,
    NotFound,
    PlanRequired,
    RateLimited,
    Refused,
    Unavailable,
)
from app.asana.schemas import Job, JobStatus
from app.exports.estimates import FEWEST_SAMPLES
from app.exports.models import Run
from app.exports.runs import past_durations, seconds_in_progress, waits_for_token
from app.lanes.claim import HeldLane
from app.lanes.models import WaitReason
from app.problems import Code, Problem
from app.worker.context import Context

log = structlog.get_logger()


@dataclass(frozen=True)
class Succeeded:
    """Asana is done; the job names the file."""

    job: Job
    warnings: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Unsuccessful:
    """The job ended, or is given up; `again` tells whether another attempt may help."""

    problem: Problem
    again: bool


async def poll(ctx: Context, lane: HeldLane, run: Run) -> Succeeded | Unsuccessful:
    """Look at the job until it has ended, is lost, or was still in progress when the limit had passed."""
    settings = ctx.settings
    began = ctx.clock.monotonic() - await ctx.write(seconds_in_progress, run)
    past = await ctx.write(past_durations, run)
    pause = settings.poll_min_seconds
    missed = 0
    warnings: dict[str, dict[str, str]] = {}
    while True:
        await _pause(ctx, run, pause)
        job = await _look(ctx, lane, run)
        elapsed = ctx.clock.monotonic() - began
        if isinstance(job, Unsuccessful):
            return job
        if job is None:
            pause = ctx.backoff(missed)
            missed += 1
            continue
        missed = 0
        pause = next_look(elapsed, past, settings.poll_min_seconds, settings.poll_max_seconds)
        match job.status:
            case JobStatus.SUCCEEDED:
                return Succeeded(job, list(warnings.values()))
            case JobStatus.FAILED:
                detail = (
                    f"Asana reported job {job.gid} as failed, without a reason, in attempt {run.attempt}."
                )
                return Unsuccessful(Problem(Code.UPSTREAM_FAILED, detail), again=True)
            case JobStatus.NOT_STARTED | JobStatus.IN_PROGRESS:
                pass
            case JobStatus.UNKNOWN:
                warnings[job.raw_status] = _unknown_status(job.raw_status)
        if elapsed >= settings.run_limit_seconds:
            detail = f"Job {job.gid} was still in progress after {elapsed:.0f} seconds."
            return Unsuccessful(Problem(Code.RUN_TIMEOUT, detail), again=False)


async def _pause(ctx: Context, run: Run, seconds: float) -> None:
    if run.wait_reason is WaitReason.CREDENTIAL_INVALID:
        await ctx.upstream.until_changed(run.credential, seconds)
    else:
        await ctx.clock.sleep(seconds)


async def _look(ctx: Context, lane: HeldLane, run: Run) -> Job | Unsuccessful | None:
    """The job as Asana shows it now; None when it could not be seen this time."""
    try:
        job = await ctx.upstream.job(run)
    except (RateLimited, Unavailable) as error:
        log.info("run.poll_failed", run=run.id, error=str(error))
        return None
    except NotAuthorized:
        return await _token_refused(ctx, lane, run)
    except PlanRequired as error:
        return Unsuccessful(Problem(Code.UPSTREAM_FORBIDDEN, f"Asana answered: {error}"), again=False)
    except (NotFound, Forbidden, Refused) as error:
        detail = f"Asana no longer shows job {run.asana_job}: {error}"
        return Unsuccessful(Problem(Code.UPSTREAM_JOB_LOST, detail), again=True)
    if run.wait_reason:
        await _wait_for_token(ctx, lane, run, None)
    return job


def next_look(elapsed: float, past: list[float], least: float, most: float) -> float:
    """Seconds until the next look: when the next longer one of the past runs would have ended.

    But no more than a twentieth of the time gone by, so that a slot idles for no longer than that; before the
    shortest of a few past runs, none is expected to end. `past` is sorted, shortest first.
    """
    longer = next((duration for duration in past if duration > elapsed), math.inf)
    is_early = len(past) >= FEWEST_SAMPLES and elapsed < past[0]
    pause = longer - elapsed if is_early else min(longer - elapsed, elapsed / 20)
    return min(max(pause, least), most)


async def _token_refused(ctx: Context, lane: HeldLane, run: Run) -> Unsuccessful | None:
    """The job goes on at Asana: keep the slot and wait for a new token, but not for ever."""
    if run.wait_reason is None:
        await _wait_for_token(ctx, lane, run, WaitReason.CREDENTIAL_INVALID)
    given_up = await ctx.upstream.given_up(run.credential, ctx.settings.credential_repair_seconds)
    return Unsuccessful(given_up, again=False) if given_up else None


async def _wait_for_token(ctx: Context, lane: HeldLane, run: Run, reason: WaitReason | None) -> None:
    await ctx.write(waits_for_token, lane, run.id, reason)
    run.wait_reason = reason


def _unknown_status(status: str) -> dict[str, str]:
    return {
        "code": "unknown_job_status",
        "detail": f"Asana reported the status {status!r}, which was taken as still in progress.",
    }
