"""The round of garbage: files that no row names go, files that rows name and that are gone come back."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from app.artifacts.duplicates import packed
from app.artifacts.models import Artifact
from app.artifacts.store import NotStored, StorageFull, Store, StoreFailed
from app.artifacts.verify import Corrupt, TooLarge
from app.exports.garbage import AT_ONCE, Kept, kept_after, note_missing, note_whole, strays
from app.exports.latency import database_now
from app.exports.models import Run
from app.metrics import REPAIRS
from app.worker.context import Context
from app.worker.fetching import verifier_for

# Between publishing a file and recording it lie moments; this is for clocks that are off as well.
STRAY_AFTER = timedelta(days=1)
LOOKS_AT_ONCE = 20

log = structlog.get_logger()


async def collect_garbage(ctx: Context, stray_after: timedelta = STRAY_AFTER) -> None:
    """Go through the store and through the tables, a page at a time, and mend what does not agree."""
    # First, for what is missing may be there by another name.
    await _find_missing(ctx)
    await _remove_strays(ctx, stray_after)


async def _remove_strays(ctx: Context, stray_after: timedelta) -> None:
    before = await ctx.write(database_now) - stray_after
    removed = 0
    async for page in _pages(ctx, before):
        for key in await ctx.write(strays, page):
            try:
                await ctx.store.delete(key)
            except StoreFailed as error:
                log.warning("garbage.not_removed", key=key, error=str(error))
            else:
                removed += 1
    if removed:
        REPAIRS.labels("stray").inc(removed)
        log.warning("garbage.strays_removed", files=removed)


async def _pages(ctx: Context, before: datetime) -> AsyncIterator[list[str]]:
    """The keys of all files that old."""
    page: list[str] = []
    async for entry in ctx.store.files():
        if entry.modified_at < before:
            page.append(entry.key)
        if len(page) == AT_ONCE:
            yield page
            page = []
    if page:
        yield page


async def _find_missing(ctx: Context) -> None:
    last = None
    while page := await ctx.write(kept_after, last):
        looks = asyncio.Semaphore(LOOKS_AT_ONCE)
        found = await asyncio.gather(*(_missing_of(ctx, kept, looks) for kept in page))
        for kept, missing in zip(page, found, strict=True):
            if missing:
                await _mended(ctx, kept, missing)
            elif missing is not None and kept.artifact.missing_since:
                await ctx.write(note_whole, kept.artifact.id, kept.artifact.key, ctx.lease.worker)
        last = page[-1].artifact.id


async def _mended(ctx: Context, kept: Kept, missing: list[str]) -> None:
    """What is in the way of one must not be in the way of all: it is looked at again in the next round."""
    try:
        await _mend(ctx, kept, missing)
    except StoreFailed as error:
        log.warning("garbage.not_mended", artifact=kept.artifact.id, error=str(error))


async def _missing_of(ctx: Context, kept: Kept, looks: asyncio.Semaphore) -> list[str] | None:
    """Which of its files are not there, or not whole; None where the store does not tell."""
    async with looks:
        try:
            return [key for key, size in kept.files.items() if not await _is_there(ctx.store, key, size)]
        except StoreFailed as error:
            log.warning("garbage.not_looked_at", artifact=kept.artifact.id, error=str(error))
            return None


async def _is_there(store: Store, key: str, size: int | None) -> bool:
    try:
        found = await store.size(key)
    except NotStored:
        return False
    return size is None or found == size


async def _mend(ctx: Context, kept: Kept, missing: list[str]) -> None:
    artifact, worker = kept.artifact, ctx.lease.worker
    log.error("garbage.files_missing", artifact=artifact.id, files=missing)
    if not await ctx.write(note_missing, artifact.id, artifact.key, missing, worker):
        return
    if artifact.key not in missing and artifact.duplicates_key in missing:
        try:
            found = await _list_duplicates(ctx, artifact, kept.run)
        except (NotStored, StorageFull) as error:
            log.warning("garbage.duplicates_wait", artifact=artifact.id, error=repr(error))
            return
        if not found:
            # A file that is there but is another one is as good as missing.
            await ctx.write(note_missing, artifact.id, artifact.key, [artifact.key], worker)


async def _list_duplicates(ctx: Context, artifact: Artifact, run: Run) -> bool:
    """Make the list of lines that repeat an object again, from the file; False where that is damaged."""
    verifier = verifier_for(ctx, run)
    stored = await ctx.store.open(artifact.key)
    try:
        async for piece in stored.chunks():
            await asyncio.to_thread(verifier.feed, piece)
        verified = await asyncio.to_thread(verifier.finish)
    except (Corrupt, TooLarge):
        return False
    if verified.sha256 != artifact.sha256:
        return False
    async with ctx.store.writer(artifact.duplicates_key) as writer:
        await writer.write_all(packed(verifier.duplicates.ordinals()))
        await writer.publish()
    return True
