"""Fetching archived files from Asana again, one at a time."""

import math
from collections.abc import Sequence

import structlog

from app.artifacts.fetch import Interrupted, UrlExpired
from app.artifacts.models import Artifact
from app.artifacts.store import StorageFull, StoreFailed, Writer
from app.artifacts.verify import Corrupt
from app.asana.errors import AsanaError
from app.exports.models import Run
from app.exports.refetches import (
    HeldRefetch,
    RefetchLost,
    claim_refetch,
    put_back_refetch,
    refetch_failed,
    refetched,
    wanted_again,
)
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.crashes import report
from app.worker.fetching import HOPELESS_ERRORS, fetched_file, hopeless, waited_too_long
from app.worker.uninterrupted import uninterrupted

MOST_FAILURES = 3
PASSING = (Interrupted, UrlExpired, StorageFull, StoreFailed, AsanaError)

log = structlog.get_logger()


async def refetch_all(ctx: Context) -> None:
    """Fetch what is asked for, one after the other, until nothing waits."""
    while held := await ctx.write(claim_refetch, ctx.lease.worker):
        await refetch(ctx, held)


async def refetch(ctx: Context, held: HeldRefetch) -> None:
    """Bring a refetch to its end, or put it back: what passes by itself is waited for, what crashes or comes
    damaged is tried a few times.
    """
    try:
        if failure := await _tried(ctx, held):
            log.warning("refetch.failed", artifact=held.artifact, code=failure.code, detail=failure.detail)
            await ctx.write(refetch_failed, held, failure)
    except RefetchLost:
        log.warning("refetch.lost", artifact=held.artifact)
    except PASSING as error:
        log.warning("refetch.waits", artifact=held.artifact, error=f"{type(error).__name__}: {error}")
        seconds = max(getattr(error, "retry_after", None) or 0.0, ctx.settings.backoff_max_seconds)
        await ctx.write(put_back_refetch, held, seconds=seconds, failures=0)
    except Exception as error:
        report("refetch", error, artifact=held.artifact, before=held.failures)
        await ctx.write(put_back_refetch, held, seconds=ctx.backoff(held.failures), failures=1)


async def _tried(ctx: Context, held: HeldRefetch) -> Problem | None:
    """One try; why the file cannot be had again, if that is certain."""
    if held.failures >= MOST_FAILURES:
        return Problem(Code.POISON, f"{held.failures} times the worker has vanished or failed.")
    wanted = await ctx.write(wanted_again, held)
    if wanted is None:
        return Problem(Code.ARTIFACT_EXPIRED, "The file is no longer kept.")
    artifact, run = wanted
    try:
        return await _fetch_and_keep(ctx, held, artifact, run)
    except HOPELESS_ERRORS as error:
        return hopeless(run, error)
    except Corrupt as error:
        times = held.failures + 1
        if times < ctx.settings.fetch_tries:
            raise
        return Problem(Code.ARTIFACT_CORRUPT, f"Fetched {times} times; the last time: {error}.")
    except PASSING as error:
        if failure := await waited_too_long(ctx, run, error, held.waited):
            return failure
        raise


async def _fetch_and_keep(ctx: Context, held: HeldRefetch, artifact: Artifact, run: Run) -> Problem | None:
    # By a key of its own: what the store still has of the file stays as it is until this one is recorded.
    key = f"{run.workspace}/{run.id}-again-{held.fence}.jsonl.gz"
    # An address was offered once: where there is none now, Asana has the file no longer.
    async with fetched_file(ctx, run, key, math.inf) as (verified, writers):
        if verified.sha256 != artifact.sha256:
            detail = f"Asana's file has the SHA-256 {verified.sha256} instead of {artifact.sha256}."
            return Problem(Code.ARTIFACT_CHANGED, detail)
        await uninterrupted(_keep(ctx, held, writers))
    log.info("artifact.refetched", artifact=held.artifact)
    return None


async def _keep(ctx: Context, held: HeldRefetch, writers: Sequence[Writer]) -> None:
    key = writers[0].key
    async with ctx.store.published(writers, unless=RefetchLost):
        await ctx.write(refetched, held, key, ctx.store.location(key))
