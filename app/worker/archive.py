"""Fetching the file of a finished job, verifying it and keeping it."""

import asyncio

import structlog

from app.artifacts.fetch import DownloadPolicy, Gone, Interrupted, UrlExpired, UrlNotAllowed, fetch
from app.artifacts.models import MEDIA_TYPE, Artifact, ArtifactState
from app.artifacts.store import StorageFull
from app.artifacts.verify import Corrupt, Limits, TooLarge, Verified, Verifier
from app.asana.errors import AsanaError, Forbidden, NotAuthorized, NotFound
from app.exports.models import Run
from app.exports.runs import HeldArchive, archive_failed, archived, hold_archive
from app.ids import RunId, new_artifact_id
from app.lanes.lease import LaneLost
from app.problems import Code, Problem
from app.worker.context import Context

HOPELESS = (TooLarge, UrlNotAllowed, Gone, NotFound, Forbidden)

log = structlog.get_logger()


class Archiving:
    """The files this worker is fetching, so many at a time."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._places = asyncio.Semaphore(ctx.settings.max_archives)
        self._tasks: dict[asyncio.Task[None], RunId] = {}

    @property
    def free(self) -> int:
        """How many more could be fetched at once now."""
        return max(0, self._ctx.settings.max_archives - len(self._tasks))

    def start(self, archive: HeldArchive) -> None:
        """Fetch in the background."""
        task = asyncio.create_task(self._work(archive), name=f"archive {archive.run}")
        self._tasks[task] = archive.run
        task.add_done_callback(self._tasks.pop)

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """What is going on now."""
        return frozenset(self._tasks)

    @property
    def runs(self) -> list[RunId]:
        """Whose files."""
        return list(self._tasks.values())

    async def _work(self, archive: HeldArchive) -> None:
        try:
            async with self._places:
                await keep_file(self._ctx, archive)
        except LaneLost:
            log.warning("archive.lost", run=archive.run)
        except Exception:
            log.exception("archive.crashed", run=archive.run)


async def keep_file(ctx: Context, archive: HeldArchive) -> None:
    """Bring the run to its end: succeeded with a verified file in the store, or failed with the reason.

    A damaged file is fetched again a few times. What passes by itself (network, storage, limits, a token to
    be replaced) is waited for. Raises `LaneLost` when somebody else archives the run by now.
    """
    run = await ctx.write(hold_archive, archive)
    key = f"{run.workspace}/{run.id}-{archive.fence}.jsonl.gz"
    got = await _fetched(ctx, run, key)
    if isinstance(got, Problem):
        log.warning("archive.failed", run=run.id, code=got.code, detail=got.detail)
        await ctx.write(archive_failed, archive, got)
        return
    warnings = [] if got.lines else [{"code": "empty_result", "detail": "Asana exported no objects."}]
    try:
        await ctx.write(archived, archive, _artifact(ctx, run, key, got), warnings)
    except LaneLost:
        await ctx.store.delete(key)
        raise
    log.info("run.archived", run=run.id, lines=got.lines, bytes=got.bytes, sha256=got.sha256)


async def _fetched(ctx: Context, run: Run, key: str) -> Verified | Problem:
    """Try until the file is there or there is no more hope of it."""
    damaged = tries = 0
    began = ctx.clock.monotonic()
    while True:
        pause = None
        waited = ctx.clock.monotonic() - began
        try:
            return await _fetch_once(ctx, run, key, waited)
        except Corrupt as error:
            damaged += 1
            log.warning("archive.corrupt", run=run.id, error=str(error), times=damaged)
            if damaged >= ctx.settings.fetch_tries:
                return Problem(Code.ARTIFACT_CORRUPT, f"Fetched {damaged} times; the last time: {error}.")
        except HOPELESS as error:
            return Problem(_code(error), f"The file of job {run.asana_job}: {error}")
        except (Interrupted, UrlExpired, StorageFull, AsanaError) as error:
            log.warning("archive.waits", run=run.id, error=f"{type(error).__name__}: {error}")
            if given_up := await _given_up(ctx, run, error, waited):
                return given_up
            pause = error.retry_after if isinstance(error, Interrupted) else None
        await ctx.clock.sleep(ctx.backoff(tries) if pause is None else pause)
        tries += 1


async def _given_up(ctx: Context, run: Run, error: Exception, waited: float) -> Problem | None:
    """What to fail with when waiting has lasted too long; networks and disks are waited for without end."""
    match error:
        case NotAuthorized():
            return await ctx.upstream.given_up(run.credential, ctx.settings.credential_repair_seconds)
        case UrlExpired() if waited > ctx.settings.run_limit_seconds:
            detail = f"Fresh addresses were refused for {waited:.0f} seconds: {error}."
            return Problem(Code.UPSTREAM_ARTIFACT_EXPIRED, detail)
        case _:
            return None


async def _fetch_once(ctx: Context, run: Run, key: str, waited: float) -> Verified:
    settings = ctx.settings
    job = await ctx.upstream.job(run)
    url = job.export.download_url if job.export else None
    if url is None and waited > settings.url_wait_seconds:
        raise Gone("Asana reports success but offers no address for it")
    if url is None:
        raise Interrupted("no address yet")
    return await fetch(
        ctx.downloads,
        url,
        ctx.store,
        key,
        DownloadPolicy(settings.download_hosts, settings.download_allow_http),
        Verifier(Limits(settings.max_line_bytes, settings.max_uncompressed_bytes), _only_type(run)),
    )


def _only_type(run: Run) -> str:
    """What a line is that does not say: with `fields` given, Asana leaves the resource type out."""
    types = {item["resource_type"] for item in run.request.get("export_request_parameters", [])}
    return types.pop() if len(types) == 1 else "unknown"


def _code(error: Exception) -> Code:
    match error:
        case TooLarge():
            return Code.ARTIFACT_TOO_LARGE
        case UrlNotAllowed():
            return Code.DOWNLOAD_REFUSED
        case _:
            return Code.UPSTREAM_ARTIFACT_EXPIRED


def _artifact(ctx: Context, run: Run, key: str, verified: Verified) -> Artifact:
    return Artifact(
        id=new_artifact_id(),
        run=run.id,
        state=ArtifactState.AVAILABLE,
        key=key,
        location=ctx.store.location(key),
        media_type=MEDIA_TYPE,
        sha256=verified.sha256,
        bytes=verified.bytes,
        uncompressed_bytes=verified.uncompressed_bytes,
        lines=verified.lines,
        by_type=verified.by_type,
        expires_at=ctx.clock.now() + ctx.settings.retention,
    )
