"""Schedules: exports that are asked for by the clock."""

from collections.abc import Iterable
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.api.auth import ExportsReader, ExportsWriter, Note, NoteQuery, ReasonBody, cause_of
from app.api.idempotency import IdempotencyKey, made_once
from app.api.ids import ScheduleIdPath
from app.api.problems import ON_BODY, ON_CALL, ON_KEY, problems
from app.api.services import ServicesOf
from app.exports.firing import timing_of
from app.exports.latency import database_now
from app.exports.schedules import (
    Cron,
    ScheduleSpec,
    ScheduleView,
    TimeZone,
    change_schedule,
    create_schedule,
    pause,
    remove,
    resume,
    schedule_view,
    schedule_views,
)
from app.problems import Code
from app.schedules.models import CatchUp, SkipReason
from app.schedules.slots import Timing

MOST_SLOTS = 100
SPEC_EXAMPLE: JsonDict = {
    "name": "changed tasks",
    "cron": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "catch_up": "latest",
    "export": {
        "workspace": "12345",
        "export_request_parameters": [
            {
                "resource_type": "task",
                "filters": {"modified_at.after": {"since": "last_success", "overlap": "15m"}},
            }
        ],
        "deliver_within": 7200,
    },
}
Count = Annotated[int, Field(ge=1, le=MOST_SLOTS, description="How many.", examples=[10])]

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])


class ScheduleCreate(ScheduleSpec):
    """What is to be exported, and when."""

    model_config = ConfigDict(json_schema_extra={"examples": [SPEC_EXAMPLE]})

    note: Note = None


class SchedulePut(ScheduleSpec):
    """What it is to be from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [SPEC_EXAMPLE | {"note": "a longer night"}]})

    note: Note = None


class ScheduleOut(BaseModel):
    """Exports that are asked for by the clock."""

    id: str
    name: str
    cron: str
    timezone: str
    jitter: int
    catch_up: CatchUp
    export: dict[str, Any] = Field(description="What it asks for at each slot.")
    watermark: datetime | None = Field(
        description="Up to when its succeeded exports have data: `last_success` asks from here on, less the "
        "overlap. Null before the first success."
    )
    next_slot: datetime | None = Field(description="Null while it is paused.")
    next_at: datetime | None = Field(description="When that is fired: the slot with its jitter.")
    put_off: SkipReason | None = Field(
        description="Why that slot is due and has no export yet; it is tried again at `next_at`."
    )
    last_export: str | None = Field(description="The export of the last slot that had one.")
    skips: int = Field(description="Slots skipped in a row, the missed ones in a row taken as one.")
    skip_reason: SkipReason | None = Field(description="Why the last of these was.")
    paused_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, view: ScheduleView) -> "ScheduleOut":
        schedule = view.schedule
        return cls(
            id=schedule.id,
            name=schedule.name,
            cron=schedule.cron,
            timezone=schedule.timezone,
            jitter=schedule.jitter,
            catch_up=schedule.catch_up,
            export=schedule.export,
            watermark=view.watermark,
            next_slot=None if schedule.paused_at else schedule.next_slot,
            next_at=None if schedule.paused_at else schedule.fires_at,
            put_off=schedule.put_off,
            last_export=schedule.last_export,
            skips=schedule.skips,
            skip_reason=schedule.skip_reason,
            paused_at=schedule.paused_at,
            created_by=view.client,
            created_at=schedule.created_at,
            updated_at=schedule.updated_at,
        )


class ScheduleList(BaseModel):
    """Schedules, in order of making."""

    items: list[ScheduleOut]


class PreviewRequest(BaseModel):
    """A schedule that is not made yet."""

    model_config = ConfigDict(extra="forbid")

    cron: Cron
    timezone: TimeZone = Field("UTC", examples=["Europe/Berlin"])
    count: Count = Field(10, examples=[10])


class PreviewSlot(BaseModel):
    """A slot to come."""

    slot: datetime
    local: datetime = Field(description="The same moment in the schedule's zone.")
    fires_at: datetime | None = Field(description="With its jitter; null before the schedule is made.")


class PreviewOut(BaseModel):
    """The next slots, in order."""

    items: list[PreviewSlot]

    @classmethod
    def of(cls, timing: Timing, slots: Iterable[datetime]) -> "PreviewOut":
        zone = ZoneInfo(timing.timezone)
        return cls(
            items=[
                PreviewSlot(
                    slot=slot,
                    local=slot.astimezone(zone),
                    fires_at=timing.fires_at(slot) if timing.seed else None,
                )
                for slot in slots
            ]
        )


@router.post("", status_code=status.HTTP_201_CREATED, responses=problems(*ON_BODY, *ON_KEY, Code.CONFLICT))
async def post_schedule(
    body: ScheduleCreate,
    client: ExportsWriter,
    services: ServicesOf,
    response: Response,
    key: IdempotencyKey,
) -> ScheduleOut:
    """Have exports asked for by the clock, on your behalf and by what you are granted at each time.

    A slot that cannot have its export is skipped, and an event `schedule.skipped` tells why.
    """
    async with services.sessions.begin() as session:
        now, cause = await database_now(session), cause_of(client, body.note)
        make = partial(create_schedule, session, client, body, services.rules, now, cause)
        given = body.model_dump(mode="json", by_alias=True)
        made = await made_once(session, response, client, "schedules", key, given, make)
        shown = ScheduleOut.of(await schedule_view(session, client, made))
    response.headers["Location"] = f"/v1/schedules/{made}"
    return shown


@router.get("", responses=problems(*ON_CALL))
async def list_schedules(client: ExportsReader, services: ServicesOf) -> ScheduleList:
    """Your schedules; an administrator sees everybody's."""
    async with services.sessions() as session:
        return ScheduleList(items=[ScheduleOut.of(view) for view in await schedule_views(session, client)])


@router.post("/preview", responses=problems(*ON_BODY))
async def preview_cron(body: PreviewRequest, client: ExportsReader, services: ServicesOf) -> PreviewOut:
    """The next slots of a schedule that is not made yet, also through changes of the clock."""
    timing = Timing(body.cron, body.timezone)
    async with services.sessions() as session:
        now = await database_now(session)
    return PreviewOut.of(timing, islice(timing.slots_after(now), body.count))


@router.get("/{schedule_id}", responses=problems(*ON_CALL))
async def get_schedule(
    client: ExportsReader, schedule_id: ScheduleIdPath, services: ServicesOf
) -> ScheduleOut:
    """One schedule."""
    async with services.sessions() as session:
        return ScheduleOut.of(await schedule_view(session, client, schedule_id))


@router.put("/{schedule_id}", responses=problems(*ON_BODY, Code.CONFLICT))
async def put_schedule(
    client: ExportsWriter, schedule_id: ScheduleIdPath, body: SchedulePut, services: ServicesOf
) -> ScheduleOut:
    """Let a schedule be as said from now on; exports that were asked for stay as they are."""
    async with services.sessions.begin() as session:
        now, cause = await database_now(session), cause_of(client, body.note)
        await change_schedule(session, client, schedule_id, body, services.rules, now, cause)
        return ScheduleOut.of(await schedule_view(session, client, schedule_id))


@router.delete("/{schedule_id}", status_code=status.HTTP_204_NO_CONTENT, responses=problems(*ON_CALL))
async def delete_schedule(
    client: ExportsWriter, schedule_id: ScheduleIdPath, services: ServicesOf, note: NoteQuery = None
) -> None:
    """End a schedule. Exports that were asked for go on, and can still be listed by it."""
    async with services.sessions.begin() as session:
        await remove(session, client, schedule_id, services.rules, cause_of(client, note))


@router.post("/{schedule_id}/pause", responses=problems(*ON_BODY))
async def pause_schedule(
    client: ExportsWriter, schedule_id: ScheduleIdPath, services: ServicesOf, body: ReasonBody
) -> ScheduleOut:
    """Ask for nothing until it is resumed; paused again, the answer is the same."""
    async with services.sessions.begin() as session:
        await pause(session, client, schedule_id, services.rules, cause_of(client, body.note))
        return ScheduleOut.of(await schedule_view(session, client, schedule_id))


@router.post("/{schedule_id}/resume", responses=problems(*ON_BODY))
async def resume_schedule(
    client: ExportsWriter, schedule_id: ScheduleIdPath, services: ServicesOf, body: ReasonBody
) -> ScheduleOut:
    """Go on from the next slot; those that came due meanwhile are skipped."""
    async with services.sessions.begin() as session:
        now, cause = await database_now(session), cause_of(client, body.note)
        await resume(session, client, schedule_id, services.rules, now, cause)
        return ScheduleOut.of(await schedule_view(session, client, schedule_id))


@router.get("/{schedule_id}/preview", responses=problems(*ON_CALL))
async def preview_schedule(
    client: ExportsReader,
    schedule_id: ScheduleIdPath,
    services: ServicesOf,
    count: Annotated[int, Query(ge=1, le=MOST_SLOTS, description="How many.")] = 10,
) -> PreviewOut:
    """The next slots, also those of a paused schedule."""
    async with services.sessions() as session:
        view, now = await schedule_view(session, client, schedule_id), await database_now(session)
    timing = timing_of(view.schedule)
    return PreviewOut.of(timing, islice(timing.slots_after(now), count))
