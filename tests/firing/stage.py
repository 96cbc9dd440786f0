"""Schedules that are made and looked at by a clock that is handed in."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.events.log import Cause, Event, EventType
from app.exports.accept import Rules
from app.exports.cancel import cancel
from app.exports.firing import due_schedules, fire
from app.exports.models import Export, Phase, Status
from app.exports.schedules import ScheduleSpec, change_schedule
from app.exports.states import change, locked_run
from app.ids import ScheduleId
from app.schedules.models import Schedule, Watermark
from tests.builders import Tenant, a_schedule

Sessions = async_sessionmaker[AsyncSession]
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
WORD = Cause("test")
SINCE = {"modified_at.after": {"since": "last_success", "overlap": "10m"}}
CHANGED_TASKS = {"export_request_parameters": [{"resource_type": "task", "filters": SINCE}]}
TEAMS = {"workspace": "1001", "export_request_parameters": [{"resource_type": "team"}]}


async def made(sessions: Sessions, tenant: Tenant, now: datetime = NOON, **how: Any) -> ScheduleId:
    async with sessions.begin() as session:
        return await a_schedule(session, tenant, now, **how)


async def tick(sessions: Sessions, now: datetime, rules: Rules | None = None) -> list[Export]:
    """What a worker does every few seconds; the exports that were asked for."""
    async with sessions() as session:
        due = await due_schedules(session, now)
    fired = []
    for schedule in due:
        async with sessions.begin() as session:
            fired.append(await fire(session, schedule, rules or Rules(), now))
    return [export for export in fired if export]


async def ended(sessions: Sessions, *exports: Export) -> None:
    for export in exports:
        async with sessions.begin() as session:
            await cancel(session, export.id, actor="test", request_id=None)


async def succeeded(sessions: Sessions, export: Export, data_from: datetime | None) -> None:
    async with sessions.begin() as session:
        run = await locked_run(session, export.run)
        await change(session, run, Status.RUNNING, actor="test", phase=Phase.POLLING)
        await change(session, run, Status.ARCHIVING, actor="test", data_from=data_from)
        await change(session, run, Status.SUCCEEDED, actor="test")


@dataclass(frozen=True)
class Skip:
    slot: datetime
    until: datetime
    reason: str


async def skips(sessions: Sessions, schedule: ScheduleId) -> list[Skip]:
    async with sessions() as session:
        told = Event.data["schedule"].astext == schedule
        skipped = select(Event).where(Event.type == EventType.SCHEDULE_SKIPPED, told)
        events = (await session.scalars(skipped.order_by(Event.seq))).all()
        assert {(event.actor, event.lane) for event in events} <= {(f"schedule:{schedule}", "1001")}
        return [
            Skip(
                datetime.fromisoformat(event.data["slot"]),
                datetime.fromisoformat(event.data["until"]),
                event.data["reason"],
            )
            for event in events
        ]


async def watermark(sessions: Sessions, schedule: ScheduleId) -> datetime | None:
    async with sessions() as session:
        return (await session.get_one(Watermark, schedule)).moment


async def changed(
    sessions: Sessions, tenant: Tenant, schedule: ScheduleId, now: datetime, **how: Any
) -> None:
    async with sessions.begin() as session:
        found = await session.get_one(Schedule, schedule)
        given = {"name": found.name, "cron": found.cron, "export": found.export} | how
        spec = ScheduleSpec.model_validate(given)
        await change_schedule(session, tenant.client, schedule, spec, Rules(), now, WORD)
