"""LISTEN and NOTIFY: wake-ups that may be lost, and therefore are never all that one relies on."""

from collections.abc import AsyncIterator

from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.connection import Connection
from app.ids import LaneKey, RunId

LANES = "asana_exports_lanes"
CREDENTIALS = "asana_exports_credentials"
CHANGES = "asana_exports_changes"

ANSWER_SECONDS = 10.0
QUIET_SECONDS = 30.0

NOTIFY = text("SELECT pg_notify(:channel, :payload)")


async def notify(session: AsyncSession, channel: str, payload: str) -> None:
    """Tell listeners of a channel once the caller's transaction is committed."""
    await session.execute(NOTIFY, {"channel": channel, "payload": payload})


async def notify_change(
    session: AsyncSession, lane: LaneKey, run: RunId | None = None, now: str = ""
) -> None:
    """Tell those who wait for an export that something in its lane has changed, and what its run is now."""
    await notify(session, CHANGES, f"{lane} {run or ''} {now}")


def read_change(payload: str) -> tuple[LaneKey, RunId, str]:
    """Lane, run and status of the run; the last two are empty where no run has changed."""
    lane, run, now, *_ = (*payload.split(" "), "", "")
    return LaneKey(lane), RunId(run), now


async def listen(conninfo: str, *channels: str) -> AsyncIterator[tuple[str, str]]:
    """Yield (channel, payload) of each notification; first ("", "") once listening has begun.

    Uses a connection of its own, which must reach PostgreSQL directly and not through a transaction pooler.
    Raises `psycopg.OperationalError` when the connection is lost.
    """
    connecting = Connection.connect(conninfo, autocommit=True, connect_timeout=10)
    async with await connecting as connection:
        connection.patience = ANSWER_SECONDS
        for channel in channels:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield "", ""
        while True:
            connection.patience = None
            async for notification in connection.notifies(timeout=QUIET_SECONDS):
                yield notification.channel, notification.payload
            # A server that is frozen, or was replaced, says nothing for ever.
            connection.patience = ANSWER_SECONDS
            await connection.execute("SELECT 1")
