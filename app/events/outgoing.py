"""What leaves the service: of each public event, a delivery to every webhook endpoint that wants it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from app.database.base import Json
from app.database.jobs import defer
from app.events.public import PUBLIC
from app.ids import EndpointId, EventId

# The task that is a wake-up of an endpoint.
DELIVER_WEBHOOKS = "deliver_webhooks"
ALWAYS = {"task": DELIVER_WEBHOOKS, "public": sorted(PUBLIC)}

# Of the events that are `said`, those for others are `told`, and `wanted` by whom. An administrator is told
# of everything, others of what they may see: their own exports and schedules, what is made of those, and the
# workspaces they have a grant for. The tables are named and not imported, for they are of layers above.
TOLD = """
        SELECT events.id, events.type, events.export, events.run, events.created_at,
            coalesce(exports.client, schedules.client) AS owner,
            coalesce(
                lanes.workspace, exports.workspace, schedules.workspace, events.data ->> 'workspace'
            ) AS workspace
        FROM said AS events
        LEFT JOIN lanes ON lanes.key = events.lane
        LEFT JOIN exports ON exports.id = events.export
        LEFT JOIN schedules ON schedules.id = events.data ->> 'schedule'
        WHERE events.type = ANY (:public)
"""
WANTED = """
        FROM told, webhook_endpoints AS wanting JOIN clients ON clients.id = wanting.client
        WHERE wanting.disabled_at IS NULL AND clients.revoked_at IS NULL
          AND (wanting.types = '{}' OR told.type = ANY (wanting.types))
          AND (wanting.workspaces = '{}' OR told.workspace = ANY (wanting.workspaces))
          AND ('admin' = ANY (clients.scopes)
            OR 'exports:read' = ANY (clients.scopes) AND CASE
                WHEN told.owner IS NOT NULL THEN told.owner = clients.id
                WHEN told.run IS NOT NULL THEN EXISTS (
                    SELECT FROM exports
                    WHERE run = told.run AND client = clients.id AND status = 'succeeded')
                ELSE told.workspace IS NOT NULL AND EXISTS (
                    SELECT FROM grants WHERE client = clients.id AND workspace IN ('*', told.workspace))
                END)
"""
# One statement with the writing of the events, so that they cost no round trip more where nobody wants them.
# Those that want several of the events are woken by one job. An endpoint that is being deleted is waited for:
# it must not fail the transaction of an event.
ENTER = f"""
    told AS (
        {TOLD}
    ), entered AS (
        INSERT INTO webhook_deliveries (endpoint, event)
        SELECT wanting.id, told.id
        {WANTED}
          AND (CAST(:endpoint AS text) IS NULL OR wanting.id = :endpoint)
        FOR KEY SHARE OF wanting
        ON CONFLICT (endpoint, event) DO UPDATE
        SET state = 'pending', due_at = now(), tries = 0, failing_since = NULL, failed_at = NULL,
            finished_at = NULL
        WHERE webhook_deliveries.state <> 'pending'
        RETURNING endpoint
    )
    SELECT (SELECT count(*) FROM entered) AS deliveries,
        procrastinate_defer_jobs_v1(array_agg(
            ROW(
                :task, :task, 0, NULL, NULL,
                jsonb_build_object('endpoint', endpoint), NULL)
            ::procrastinate_job_to_defer_v1)) AS jobs
    FROM (SELECT DISTINCT endpoint FROM entered) AS woken
    HAVING count(*) > 0
"""  # noqa: S608 - constants
SAY = text(f"""
    WITH said AS (
        INSERT INTO events (id, type, export, run, lane, credential, actor, request_id, data)
        SELECT id, type, export, run, lane, credential, actor, request_id, data
        FROM jsonb_populate_recordset(NULL::events, :events)
        RETURNING *
    ), {ENTER}
""").bindparams(  # noqa: S608
    bindparam("events", type_=JSONB),
    bindparam("public", type_=ARRAY(Text)),
    bindparam("endpoint", type_=Text),
)
AGAIN = text(f"""
    WITH said AS (SELECT * FROM events WHERE id = ANY (:events)), {ENTER}
""").bindparams(  # noqa: S608
    bindparam("events", type_=ARRAY(Text)),
    bindparam("public", type_=ARRAY(Text)),
    bindparam("endpoint", type_=Text),
)


async def say(session: AsyncSession, events: Sequence[Json]) -> None:
    """Write events in the caller's transaction, with a delivery of each public one for each endpoint that
    wants it.
    """
    await session.execute(SAY, {"events": events, "endpoint": None, **ALWAYS})


async def say_again(session: AsyncSession, events: Sequence[EventId], endpoint: EndpointId) -> int:
    """Enter deliveries of events of before for an endpoint that wants them. What has been delivered or given
    up is begun anew. Returns how many there are now on their way.
    """
    row = (await session.execute(AGAIN, {"events": events, "endpoint": endpoint, **ALWAYS})).one_or_none()
    return row.deliveries if row else 0


async def wake(session: AsyncSession, endpoint: EndpointId, *, at: datetime | None = None) -> None:
    """Have what is due to an endpoint sent once the caller's transaction is committed, or at a time."""
    await defer(session, DELIVER_WEBHOOKS, at=at, endpoint=endpoint)
