"""Whether each endpoint was told of what it wants to know, by what the tables say of each other."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from sqlalchemy import Integer, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from app.events.outgoing import DELIVER_WEBHOOKS, TOLD, WANTED
from app.events.public import PUBLIC
from app.ids import EndpointId
from app.webhooks.tries import MOST_TRIES, OVERDUE

# What is late for so long was passed over by the looks for it, of which there is one in a minute.
LATE_SECONDS = 180

# As the endpoint and its client are now they have been since their last change; what was said and not yet
# committed then is left out. So are events of files, for others than administrators: who shares a run may
# have come after them.
UNTOLD = text(f"""
    WITH said AS (
        SELECT * FROM events
        WHERE CAST(:days AS integer) IS NULL OR created_at > now() - make_interval(days => :days)
    ), told AS (
        {TOLD}
    )
    SELECT wanting.id AS endpoint, told.id AS event, told.type
        {WANTED}
      AND told.created_at > wanting.updated_at + interval '1 minute'
      AND ('admin' = ANY (clients.scopes) OR told.owner IS NOT NULL OR told.run IS NULL)
      AND NOT EXISTS (
        SELECT FROM events AS change
        WHERE change.type IN ('client.changed', 'client.revoked', 'client.key_replaced')
          AND change.data ->> 'client' = clients.id
          AND change.created_at > told.created_at - interval '1 minute')
      AND NOT EXISTS (SELECT FROM webhook_deliveries WHERE (endpoint, event) = (wanting.id, told.id))
    ORDER BY told.id, wanting.id
""").bindparams(bindparam("public", type_=ARRAY(Text)), bindparam("days", type_=Integer))  # noqa: S608
# Delivered is what a receiver has accepted last; given up is what had all of its tries, or an endpoint that
# was disabled while it waited.
WITHOUT_OUTCOME = text("""
    SELECT endpoint, event, state FROM webhook_deliveries AS ended
    WHERE state = 'delivered' AND NOT coalesce(
        (attempts -> -1 ->> 'status')::integer BETWEEN 200 AND 299
        AND attempts -> -1 ->> 'error' IS NULL, false)
      OR state = 'failed' AND tries < :most
        AND coalesce(finished_at > (SELECT forgotten_until FROM event_feed), true)
        AND NOT EXISTS (
            SELECT FROM events
            WHERE type IN ('webhook.disabled', 'webhook.changed') AND data ->> 'endpoint' = ended.endpoint
              AND created_at > ended.created_at
              AND (type = 'webhook.disabled' OR (data ->> 'disabled')::boolean))
    ORDER BY event, endpoint
""")
NOT_WOKEN = text(f"""
    {OVERDUE.text}
      AND NOT EXISTS (
        SELECT FROM procrastinate_jobs
        WHERE task_name = :task AND args ->> 'endpoint' = receiver.id
          AND (status = 'doing' OR status = 'todo' AND coalesce(scheduled_at <= now(), true)))
""")


@dataclass(frozen=True)
class Broken:
    """An endpoint that was not told as it should be, and how that shows."""

    endpoint: EndpointId
    detail: str


async def broken_promises(session: AsyncSession, days: int | None) -> AsyncIterator[Broken]:
    """Each event that was not told, each delivery that ended without a reason, and each endpoint for which
    something waits that nobody will send. Deliveries may be forgotten so many days after their end.
    """
    untold = await session.execute(UNTOLD, {"public": sorted(PUBLIC), "days": days})
    for row in untold:
        yield Broken(row.endpoint, f"has no delivery of {row.event}, {row.type}")
    for row in await session.execute(WITHOUT_OUTCOME, {"most": MOST_TRIES}):
        yield Broken(row.endpoint, f"{row.event} is {row.state}, but its tries do not tell so")
    for endpoint in await session.scalars(NOT_WOKEN, {"task": DELIVER_WEBHOOKS, "seconds": LATE_SECONDS}):
        yield Broken(endpoint, "has something to be sent that nothing will wake it for")
