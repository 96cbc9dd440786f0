"""A file of Asana's, fetched into the store by fresh addresses and verified, for whoever keeps it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.artifacts.duplicates import packed
from app.artifacts.fetch import (
    Download,
    DownloadPolicy,
    Gone,
    Interrupted,
    UrlExpired,
    UrlNotAllowed,
    fetched,
)
from app.artifacts.models import DUPLICATES
from app.artifacts.store import Writer
from app.artifacts.verify import Limits, TooLarge, Verified, Verifier
from app.asana.errors import (
    Forbidden,
    NotAuthorized,
    NotFound,
    PlanRequired,
    Refused,
)
from app.exports.models import Run
from app.exports.requests import only_type
from app.problems import Code, Problem
from app.worker.context import Context

HOPELESS: dict[type[Exception], Code] = {
    TooLarge: Code.ARTIFACT_TOO_LARGE,
    UrlNotAllowed: Code.DOWNLOAD_REFUSED,
    Gone: Code.UPSTREAM_ARTIFACT_EXPIRED,
    NotFound: Code.UPSTREAM_ARTIFACT_EXPIRED,
    Forbidden: Code.UPSTREAM_ARTIFACT_EXPIRED,
    Refused: Code.UPSTREAM_JOB_LOST,
    PlanRequired: Code.UPSTREAM_FORBIDDEN,
}

HOPELESS_ERRORS = tuple(HOPELESS)


@asynccontextmanager
async def fetched_file(
    ctx: Context, run: Run, key: str, waited: float
) -> AsyncIterator[tuple[Verified, list[Writer]]]:
    """The file of a run's job, written for `key`, and the list of its duplicates beside it if there are any;
    unless the caller publishes them, nothing remains.

    `waited` is for how many seconds it has been tried. Raises what `fetched` raises, and `AsanaError`.
    """
    settings = ctx.settings

    async def address() -> str:
        job = await ctx.upstream.job(run)
        url = job.export.download_url if job.export else None
        if url is None and waited > settings.url_wait_seconds:
            raise Gone("Asana reports success but offers no address for it")
        if url is None:
            raise Interrupted("no address yet")
        return url

    async def pause(tries: int, least: float) -> None:
        await ctx.clock.sleep(max(least, ctx.backoff(tries)))

    policy = DownloadPolicy(settings.download_hosts, settings.download_allow_http)
    download = Download(ctx.downloads, policy, address, pause)
    verifier = verifier_for(ctx, run)
    async with AsyncExitStack() as stack:
        writer, verified = await stack.enter_async_context(fetched(download, ctx.store, key, verifier))
        writers = [writer]
        if verified.duplicate_gids:
            writers += [await stack.enter_async_context(ctx.store.writer(f"{key}{DUPLICATES}"))]
            await writers[-1].write_all(packed(verifier.duplicates.ordinals()))
        yield verified, writers


def verifier_for(ctx: Context, run: Run) -> Verifier:
    """What a file of the run is verified by."""
    limits = Limits(ctx.settings.max_line_bytes, ctx.settings.max_uncompressed_bytes)
    return Verifier(limits, only_type(run.request))


def hopeless(run: Run, error: Exception) -> Problem:
    """What one of the hopeless errors is to its callers."""
    return Problem(HOPELESS[type(error)], f"The file of job {run.asana_job}: {error}")


async def waited_too_long(ctx: Context, run: Run, error: Exception, waited: float) -> Problem | None:
    """What to fail with when there is no more hope; networks and disks are waited for without end."""
    match error:
        case NotAuthorized():
            return await ctx.upstream.given_up(run.credential, ctx.settings.credential_repair_seconds)
        case UrlExpired() if waited > ctx.settings.run_limit_seconds:
            detail = f"Fresh addresses were refused for {waited:.0f} seconds: {error}."
            return Problem(Code.UPSTREAM_ARTIFACT_EXPIRED, detail)
        case _:
            return None
