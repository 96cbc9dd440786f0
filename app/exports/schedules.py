"""What is asked for by the clock: making, changing, pausing and ending schedules, and reading them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo
from pydantic import field_validator as checks
from pydantic_core import PydanticCustomError
from sqlalchemy import ColumnElement, Row, func, select, true
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.clients import Name
from app.access.models import Client, Scope
from app.database.base import Json
from app.events.log import Cause, EventType, audit
from app.exports.accept import Rules, Slot, admit, lane_of
from app.exports.firing import pass_over, skip_put_off, submission_of, timing_of
from app.exports.requests import Moment
from app.exports.templates import ScheduledExport, ScheduledWishes
from app.ids import ScheduleId, new_schedule_id
from app.problems import Code, ProblemError
from app.schedules.models import CatchUp, Schedule, SkipReason, Watermark
from app.schedules.slots import Timing, zones
from app.schedules.watermarks import reset_watermark

LONGEST_JITTER = 3600


def _comes_true(cron: str) -> str:
    try:
        next(Timing(cron, "UTC").slots_after(datetime.now(UTC)))
    except ValueError as error:
        raise PydanticCustomError("cron", "is no cron expression: {why}", {"why": str(error)}) from None
    except StopIteration:
        raise PydanticCustomError("cron", "never comes true") from None
    return cron


def _known(timezone: str) -> str:
    if timezone not in zones():
        raise PydanticCustomError("timezone", "is no time zone of the IANA database, such as Europe/Berlin")
    return timezone


Cron = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z*/,# -]+$", max_length=200),
    AfterValidator(_comes_true),
    Field(
        description="Minute, hour, day of the month, month and day of the week, as in crontab(5).",
        examples=["15 2 * * *"],
    ),
]
TimeZone = Annotated[
    str,
    AfterValidator(_known),
    Field(description="The zone of these times, by its IANA name.", examples=["Europe/Berlin"]),
]


class ScheduleSpec(BaseModel):
    """What a client decides about a schedule."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    cron: Cron
    timezone: TimeZone = "UTC"
    jitter: int = Field(
        0,
        strict=True,
        ge=0,
        le=LONGEST_JITTER,
        description="Most seconds by which an export is asked for later than at its slot, so that not all "
        "come at once. How many it is, is always the same for a slot.",
    )
    catch_up: CatchUp = CatchUp.SKIP
    export: ScheduledExport = Field(
        description="The body of a request for an export, with `deliver_within` instead of `deliver_by`."
    )
    watermark: Moment | None = Field(
        None,
        description="From when on `last_success` is to ask next. Left out, the watermark stays as it is, "
        "unless another request is made: then, as with null, there is none.",
    )

    @checks("jitter")
    @classmethod
    def _shorter_than_the_gaps(cls, jitter: int, known: ValidationInfo) -> int:
        if {"cron", "timezone"} <= known.data.keys():
            gap = Timing(known.data["cron"], known.data["timezone"]).shortest_gap(datetime.now(UTC))
            if gap and jitter >= gap.total_seconds():
                raise PydanticCustomError("jitter", "must be shorter than the time from slot to slot")
        return jitter


@dataclass(frozen=True)
class ScheduleView:
    """A schedule, whose it is, and up to when its data reach."""

    schedule: Schedule
    client: str
    watermark: datetime | None


async def create_schedule(
    session: AsyncSession, client: Client, spec: ScheduleSpec, rules: Rules, now: datetime, cause: Cause
) -> ScheduleId:
    """Enter a schedule whose first slot is the next one.

    Raises `ProblemError`: what `accept` would of an export that is not granted, `conflict` for a name that
    another schedule of the client has.
    """
    schedule = Schedule(id=new_schedule_id(), client=client.id)
    await _admit(session, client, Slot(schedule.id, now), spec, rules)
    _describe(schedule, spec)
    _begin(schedule, now)
    session.add(schedule)
    await _flush(session, spec.name)
    await reset_watermark(session, schedule.id, spec.watermark)
    await _audit(session, EventType.SCHEDULE_CREATED, schedule, rules, cause, _said(spec))
    return schedule.id


async def change_schedule(
    session: AsyncSession,
    client: Client,
    schedule_id: ScheduleId,
    spec: ScheduleSpec,
    rules: Rules,
    now: datetime,
    cause: Cause,
) -> None:
    """Let it be as said from now on. Raises `ProblemError` as `create_schedule` does, and `not-found`."""
    schedule = await _locked(session, client, schedule_id)
    timing, asked = timing_of(schedule), _asked(schedule)
    owner = await session.get_one(Client, schedule.client)
    await _admit(session, owner, Slot(schedule.id, now), spec, rules)
    _describe(schedule, spec)
    await _flush(session, spec.name)
    if timing_of(schedule) != timing:
        # A slot that only waits out its jitter is over, too.
        due = replace(timing, jitter=0)
        await pass_over(session, schedule, SkipReason.CHANGED, rules, now, by=due)
        _begin(schedule, now)
        await session.flush()
    if _asked(schedule) != asked or "watermark" in spec.model_fields_set:
        await reset_watermark(session, schedule.id, spec.watermark)
    await _audit(session, EventType.SCHEDULE_CHANGED, schedule, rules, cause, _said(spec))


async def pause(
    session: AsyncSession, client: Client, schedule_id: ScheduleId, rules: Rules, cause: Cause
) -> None:
    """Fire nothing until it is resumed; what was fired goes on. Raises `ProblemError` `not-found`."""
    schedule = await _locked(session, client, schedule_id)
    if schedule.paused_at is None:
        schedule.paused_at = func.now()
        await session.flush()
        await _audit(session, EventType.SCHEDULE_PAUSED, schedule, rules, cause)


async def resume(
    session: AsyncSession, client: Client, schedule_id: ScheduleId, rules: Rules, now: datetime, cause: Cause
) -> None:
    """Fire again from the next slot on; what came due meanwhile is skipped. Raises `not-found`."""
    schedule = await _locked(session, client, schedule_id)
    if schedule.paused_at is not None:
        await pass_over(session, schedule, SkipReason.PAUSED, rules, now, by=timing_of(schedule))
        schedule.paused_at = None
        await session.flush()
        await _audit(session, EventType.SCHEDULE_RESUMED, schedule, rules, cause)


async def remove(
    session: AsyncSession, client: Client, schedule_id: ScheduleId, rules: Rules, cause: Cause
) -> None:
    """End it; what was fired goes on, and can still be found by it. Raises `ProblemError` `not-found`."""
    schedule = await _locked(session, client, schedule_id)
    await skip_put_off(session, schedule, rules, by=timing_of(schedule))
    schedule.removed_at = func.now()
    await session.flush()
    await _audit(session, EventType.SCHEDULE_REMOVED, schedule, rules, cause)


async def schedule_view(session: AsyncSession, client: Client, schedule_id: ScheduleId) -> ScheduleView:
    """One schedule. Raises `ProblemError` `not-found` for one that the client may not see, too."""
    found = (await session.execute(VIEWS.where(_visible(client), Schedule.id == schedule_id))).one_or_none()
    if found is None:
        raise _not_found(schedule_id)
    return _view(found)


async def schedule_views(session: AsyncSession, client: Client) -> Sequence[ScheduleView]:
    """The client's schedules, for an administrator everybody's, in order of making."""
    rows = await session.execute(VIEWS.where(_visible(client)).order_by(Schedule.id))
    return [_view(row) for row in rows]


VIEWS = (
    select(Schedule, Client.name, Watermark.moment)
    .join(Client, Client.id == Schedule.client)
    .outerjoin(Watermark, Watermark.schedule == Schedule.id)
    .execution_options(populate_existing=True)
)


def _view(row: Row[Schedule, str, datetime | None]) -> ScheduleView:
    return ScheduleView(row.Schedule, row.name, row.moment)


def _visible(client: Client) -> ColumnElement[bool]:
    mine = true() if client.may(Scope.ADMIN) else Schedule.client == client.id
    return mine & Schedule.removed_at.is_(None)


def _not_found(schedule_id: ScheduleId) -> ProblemError:
    return ProblemError(Code.NOT_FOUND, f"There is no schedule {schedule_id} that you may see.")


async def _locked(session: AsyncSession, client: Client, schedule_id: ScheduleId) -> Schedule:
    """Whoever fires it waits, or has fired it."""
    schedule = await session.scalar(
        select(Schedule)
        .where(_visible(client), Schedule.id == schedule_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if schedule is None:
        raise _not_found(schedule_id)
    return schedule


def _describe(schedule: Schedule, spec: ScheduleSpec) -> None:
    schedule.name, schedule.cron, schedule.timezone = spec.name, spec.cron, spec.timezone
    schedule.jitter, schedule.catch_up = spec.jitter, spec.catch_up
    schedule.kind, schedule.workspace = spec.export.kind, spec.export.workspace
    schedule.export = spec.export.model_dump(mode="json", by_alias=True, exclude_none=True)
    schedule.updated_at = func.now()


def _asked(schedule: Schedule) -> Json:
    """What is asked of Asana, whether or not it would still be taken."""
    return {
        name: value for name, value in schedule.export.items() if name not in ScheduledWishes.model_fields
    }


def _begin(schedule: Schedule, now: datetime) -> None:
    timing = timing_of(schedule)
    schedule.next_slot = timing.slot_after(now)
    schedule.fires_at = timing.fires_at(schedule.next_slot)


async def _admit(session: AsyncSession, client: Client, slot: Slot, spec: ScheduleSpec, rules: Rules) -> None:
    wanted = submission_of(slot, spec.export, spec.watermark)
    await admit(session, client, wanted, rules.lane_scope, place="/export")


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        if "schedules_name_idx" not in str(error.orig):
            raise
        raise ProblemError(Code.CONFLICT, f"You have a schedule named {name!r} already.") from None


def _said(spec: ScheduleSpec) -> Json:
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"note"})


async def _audit(
    session: AsyncSession,
    kind: EventType,
    schedule: Schedule,
    rules: Rules,
    cause: Cause,
    said: Json | None = None,
) -> None:
    lane = lane_of(schedule.workspace, schedule.kind, rules.lane_scope)
    await audit(session, kind, cause, lane=lane, data={"schedule": schedule.id, **(said or {})})
