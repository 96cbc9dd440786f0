"""The round of retention: files expire as their clients were told, and then their bytes go."""

import structlog

from app.exports.retention import AT_ONCE, expire, removable, removed, tell_expiring
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
    while some := await ctx.write(removable):
        for each in some:
            for key in each.keys:
                await ctx.store.delete(key)
            # Until this is committed the next round deletes them again, which does no harm.
            await ctx.write(removed, each.artifact)
            log.info("artifact.removed", artifact=each.artifact, files=len(each.keys))
