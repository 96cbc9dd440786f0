"""The round of retention: files expire as their clients were told, and then their bytes go."""

import structlog

from app.artifacts.store import StoreFailed
from app.exports.retention import AT_ONCE, Removable, expire, removable, removed, tell_expiring
from app.worker.context import Context

log = structlog.get_logger()


async def keep_retention(ctx: Context) -> None:
    """Announce what expires soon, end what is over, and remove what ended long enough ago.

    It may run in several workers at once, and be broken off anywhere: what is left the next round does.
    """
    worker, notice = ctx.lease.worker, ctx.settings.expiring_notice
    while await ctx.write(tell_expiring, notice, worker) == AT_ONCE:
        pass
    while await ctx.write(expire, worker) == AT_ONCE:
        pass
    last, left = None, 0
    while some := await ctx.write(removable, last):
        for each in some:
            try:
                await _remove(ctx, each)
            except StoreFailed as error:
                # What the store does not let go must not keep the rest.
                log.warning("artifact.not_removed", artifact=each.artifact, error=str(error))
                left += 1
        last = some[-1].artifact
    if left:
        raise StoreFailed(f"the files of {left} artifacts could not be removed")


async def _remove(ctx: Context, ended: Removable) -> None:
    for key in ended.keys:
        await ctx.store.delete(key)
    # Until this is committed the next round deletes them again, which does no harm.
    await ctx.write(removed, ended.artifact)
    log.info("artifact.removed", artifact=ended.artifact, files=len(ended.keys))
