"""Waiting for a job at Asana. Looking writes nothing to the database; only a change of state does."""

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
    """Look at the job until it has ended, is lost, or has taken longer than the limit."""
    before = await ctx.write(lambda s: seconds_in_progress(s, run))
    past = await ctx.write(lambda s: past_durations(s, run))
    began = ctx.clock.monotonic() - before
    pause = ctx.settings.poll_min_seconds
    failures = 0
    unknown: set[str] = set()
    while (elapsed := ctx.clock.monotonic() - began) < ctx.settings.run_limit_seconds:
        await ctx.clock.sleep(pause)
        try:
            job = await ctx.upstream.job(run)
        except RateLimited:
            continue  # the budget of the token holds the next call back
        except Unavailable as error:
            log.info("run.poll_unavailable", run=run.id, error=str(error))
            pause = ctx.backoff(failures)
            failures += 1
            continue
        except NotAuthorized:
            if ended := await _token_refused(ctx, lane, run):
                return ended
            pause = ctx.settings.poll_max_seconds
            continue
        except (NotFound, Forbidden, Refused) as error:
            detail = f"Asana answered {error.status} when asked for job {run.asana_job}: {error}"
            return Unsuccessful(Problem(Code.UPSTREAM_JOB_LOST, detail), again=True)
        except PlanRequired as error:
            detail = f"Asana answered {error.status} when asked for job {run.asana_job}: {error}"
            return Unsuccessful(Problem(Code.UPSTREAM_FORBIDDEN, detail), again=False)
        failures = 0
        if run.wait_reason:
            await ctx.write(lambda s: waits_for_token(s, lane, run.id, None))
            run.wait_reason = None
        match job.status:
            case JobStatus.SUCCEEDED:
                return Succeeded(job, [_unknown_status(status) for status in sorted(unknown)])
            case JobStatus.FAILED:
                detail = f"Asana reported job {job.gid} as failed, without a reason, in attempt {run.attempt}."
                return Unsuccessful(Problem(Code.UPSTREAM_FAILED, detail), again=True)
            case JobStatus.NOT_STARTED | JobStatus.IN_PROGRESS:
                pass
            case JobStatus.UNKNOWN:
                unknown.add(job.raw_status)
        pause = next_look(elapsed, past, ctx.settings.poll_min_seconds, ctx.settings.poll_max_seconds)
    detail = f"Job {run.asana_job} was still in progress after {elapsed:.0f} seconds."
    return Unsuccessful(Problem(Code.RUN_TIMEOUT, detail), again=False)


def next_look(elapsed: float, past: list[float], least: float, most: float) -> float:
    """Seconds until the next look: when the next longer one of the past runs would have ended.

    Beyond all of them, or without any, a tenth of the time gone by. `past` is sorted, shortest first.
    """
    longer = next((duration for duration in past if duration > elapsed), None)
    pause = elapsed / 10 if longer is None else longer - elapsed
    return min(max(pause, least), most)


async def _token_refused(ctx: Context, lane: HeldLane, run: Run) -> Unsuccessful | None:
    """The job goes on at Asana: keep the slot and wait for a new token, but not for ever."""
    if run.wait_reason is None:
        await ctx.write(lambda s: waits_for_token(s, lane, run.id, WaitReason.CREDENTIAL_INVALID))
        run.wait_reason = WaitReason.CREDENTIAL_INVALID
    invalid_for = await ctx.upstream.invalid_for(run.credential)
    if invalid_for is None or invalid_for < ctx.settings.credential_repair_seconds:
        return None
    detail = f"The token has been invalid for {invalid_for:.0f} seconds and was not replaced."
    return Unsuccessful(Problem(Code.CREDENTIAL_REVOKED, detail), again=False)


def _unknown_status(status: str) -> dict[str, str]:
    return {
        "code": "unknown_job_status",
        "detail": f"Asana reported the status {status!r}, which was taken as still in progress.",
    }
