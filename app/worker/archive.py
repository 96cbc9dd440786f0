"""Fetching the file of a finished job, verifying it and keeping it."""

import asyncio
from collections.abc import Sequence

import structlog

from app.artifacts.fetch import Interrupted, UrlExpired
from app.artifacts.models import MEDIA_TYPE, Artifact, ArtifactState
from app.artifacts.store import StorageFull, StoreFailed, Writer
from app.artifacts.verify import Corrupt, Verified
from app.asana.errors import AsanaError, NotAuthorized, RateLimited
from app.exports.models import Run, Status
from app.exports.runs import HeldArchive, archive_failed, archive_waits, archived, hold_archive
from app.ids import RunId, new_artifact_id
from app.lanes.lease import LaneLost
from app.lanes.models import WaitReason
from app.lanes.notifications import read_change
from app.problems import Code, Problem
from app.traces import span
from app.worker.context import Context
from app.worker.crashes import report
from app.worker.fetching import HOPELESS_ERRORS, fetched_file, hopeless, waited_too_long
from app.worker.uninterrupted import uninterrupted

MOST_LOST = 3

log = structlog.get_logger()


class Archiving:
    """The files this worker is fetching, so many at a time; one that has to wait gives its place away."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._places = asyncio.Semaphore(ctx.settings.max_archives)
        self._tasks: dict[asyncio.Task[None], HeldArchive] = {}
        self._resting = set[RunId]()

    @property
    def free(self) -> int:
        """How many more could be fetched at once now."""
        return max(0, self._ctx.settings.max_archives - len(self._tasks) + len(self._resting))

    @property
    def has_suspect(self) -> bool:
        """Whether one of those being fetched was lost with a worker before."""
        return any(archive.lost and archive.run not in self._resting for archive in self._tasks.values())

    @property
    def tasks(self) -> frozenset[asyncio.Task[None]]:
        """What is going on now."""
        return frozenset(self._tasks)

    @property
    def runs(self) -> list[RunId]:
        """Whose files."""
        return [archive.run for archive in self._tasks.values()]

    def start(self, archive: HeldArchive) -> None:
        """Fetch in the background."""
        task = asyncio.create_task(self._work(archive), name=f"archive {archive.run}")
        self._tasks[task] = archive
        task.add_done_callback(self._tasks.pop)

    def told(self, change: str) -> None:
        """Stop fetching what nobody wants any more; should this be missed, the end of the fetch finds out."""
        _, run, now = read_change(change)
        if now == Status.CANCELED:
            for task in [task for task, archive in self._tasks.items() if archive.run == run]:
                log.info("archive.canceled", run=run)
                task.cancel()

    async def _work(self, archive: HeldArchive) -> None:
        """A fault of our own code must not leave the export archiving for ever."""
        tries = 0
        while True:
            try:
                await self._keep_file(archive)
            except LaneLost:
                log.warning("archive.lost", run=archive.run)
            except Exception as error:
                report("archive", error, run=archive.run, tries=tries)
                await self._rest(archive, self._ctx.backoff(tries))
                tries += 1
                continue
            return

    async def _rest(self, archive: HeldArchive, seconds: float) -> None:
        self._resting.add(archive.run)
        try:
            await self._ctx.clock.sleep(seconds)
        finally:
            self._resting.remove(archive.run)

    async def _keep_file(self, archive: HeldArchive) -> None:
        """Bring the run to its end: succeeded with a verified file in the store, or failed with the reason.

        A damaged file is fetched again a few times. What passes by itself (network, storage, limits, a token
        to be replaced) is waited for. Raises `LaneLost` when the run was canceled or taken over.
        """
        ctx = self._ctx
        if archive.lost >= MOST_LOST:
            detail = f"{archive.lost} workers vanished while they fetched it."
            return await ctx.write(archive_failed, archive, Problem(Code.POISON, detail))
        began = ctx.clock.monotonic()
        damaged = tries = 0
        while True:
            # At each turn, for while we wait it may be canceled.
            run = await ctx.write(hold_archive, archive)
            waited, pause, reason = ctx.clock.monotonic() - began, 0.0, WaitReason.BACKOFF
            try:
                async with self._places:
                    return await _fetch_and_keep(ctx, archive, run, waited)
            except Corrupt as error:
                damaged += 1
                log.warning("archive.corrupt", run=run.id, error=str(error), times=damaged)
                failure = _too_often_damaged(ctx, error, damaged)
            except HOPELESS_ERRORS as error:
                failure = hopeless(run, error)
            except (Interrupted, UrlExpired, StorageFull, StoreFailed, AsanaError) as error:
                log.warning("archive.waits", run=run.id, error=f"{type(error).__name__}: {error}")
                failure = await waited_too_long(ctx, run, error, waited)
                reason = _reason(error)
                pause = getattr(error, "retry_after", None) or 0.0
            if failure:
                return await ctx.write(archive_failed, archive, failure)
            await ctx.write(archive_waits, archive, reason)
            await self._rest(archive, max(pause, ctx.backoff(tries)))
            tries += 1


def _reason(error: Exception) -> WaitReason:
    match error:
        case StorageFull():
            return WaitReason.STORAGE_FULL
        case NotAuthorized():
            return WaitReason.CREDENTIAL_INVALID
        case RateLimited():
            return WaitReason.RATE_LIMITED
        case _:
            return WaitReason.BACKOFF


async def _fetch_and_keep(ctx: Context, archive: HeldArchive, run: Run, waited: float) -> None:
    """One try at the file, from fresh addresses."""
    key = f"{run.workspace}/{run.id}-{archive.fence}.jsonl.gz"
    with span("archive", of=run.traceparent, run=run.id, lane=run.lane):
        async with fetched_file(ctx, run, key, waited) as (verified, writers):
            artifact = _artifact(ctx, run, key, verified)
            await uninterrupted(_keep(ctx, archive, artifact, writers))


async def _keep(ctx: Context, archive: HeldArchive, artifact: Artifact, writers: Sequence[Writer]) -> None:
    warnings = [] if artifact.lines else [{"code": "empty_result", "detail": "Asana exported no objects."}]
    with span("publish", calls=True, key=artifact.key):
        async with ctx.store.published(writers, unless=LaneLost):
            await ctx.write(archived, archive, artifact, warnings)


def _too_often_damaged(ctx: Context, error: Corrupt, times: int) -> Problem | None:
    if times < ctx.settings.fetch_tries:
        return None
    return Problem(Code.ARTIFACT_CORRUPT, f"Fetched {times} times; the last time: {error}.")


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
        duplicate_gids=verified.duplicate_gids,
        key_paths=verified.key_paths,
        # A value and no expression: a commit whose answer is lost is repeated with the same object.
        expires_at=ctx.clock.now() + ctx.settings.retention,
    )
