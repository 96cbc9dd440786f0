"""Firing a schedule: each of its slots once, as an export or with the reason why there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import Client, Scope
from app.events.log import EventType, record
from app.exports.accept import Rules, Slot, Submission, accept, lane_of
from app.exports.latency import database_now
from app.exports.models import Export
from app.exports.plan import plan
from app.exports.states import FINAL
from app.exports.templates import STORED, AnyScheduled
from app.ids import ScheduleId
from app.problems import Code, ProblemError
from app.schedules.models import CatchUp, Schedule, SkipReason
from app.schedules.slots import Timing
from app.schedules.watermarks import watermark_of

# A restart, or a failover of PostgreSQL, makes no slot a missed one.
ON_TIME = timedelta(minutes=5)
TRIED_AGAIN_AFTER = timedelta(minutes=3)
AT_ONCE = 1000
REASONS = {
    Code.VALIDATION_FAILED: SkipReason.GRANT_MISSING,  # of the priority
    Code.QUOTA_EXCEEDED: SkipReason.QUOTA_EXCEEDED,
    Code.QUEUE_FULL: SkipReason.QUEUE_FULL,
    Code.LANE_DRAINING: SkipReason.LANE_DRAINING,
}
# What may be otherwise soon, without anybody's doing.
PASSING = {SkipReason.QUOTA_EXCEEDED, SkipReason.QUEUE_FULL}
# What a person has brought about is nothing amiss.
WANTED = {SkipReason.PAUSED, SkipReason.CHANGED}

IS_DUE = (
    Schedule.paused_at.is_(None) & Schedule.removed_at.is_(None) & (Schedule.fires_at <= bindparam("now"))
)
DUE = select(Schedule.id).where(IS_DUE).order_by(Schedule.fires_at).limit(AT_ONCE)
# Whoever comes second passes it over, and finds it moved on to its next slot later.
THIS_IF_DUE = (
    select(Schedule)
    .where(Schedule.id == bindparam("id"), IS_DUE)
    .with_for_update(skip_locked=True)
    .execution_options(populate_existing=True)
)


@dataclass(frozen=True)
class Skipped:
    """Why there is no export of a slot."""

    reason: SkipReason
    detail: str | None = None


async def due_schedules(session: AsyncSession, now: datetime) -> Sequence[ScheduleId]:
    """Those that are to be fired by now, the longest due first."""
    return (await session.scalars(DUE, {"now": now})).all()


async def fire(session: AsyncSession, schedule_id: ScheduleId, rules: Rules, now: datetime) -> Export | None:
    """Ask for the export of the newest slot that is due, and skip those before it, in one transaction with
    moving on to the next: so each slot is dealt with once, whoever looks at it. What finds a full queue or a
    quota used up is put off, if it is to be caught up with, for as long as no other slot is due.

    `now` is to be the database's: a worker whose clock is fast must not fire too early.
    """
    schedule = await session.scalar(THIS_IF_DUE, {"id": schedule_id, "now": now})
    if schedule is None:
        return None
    timing = timing_of(schedule)
    newest = timing.newest_due(schedule.next_slot, now)
    is_late = now - timing.fires_at(newest) > ON_TIME
    if is_late and schedule.catch_up is CatchUp.SKIP:
        await pass_over(session, schedule, SkipReason.MISSED, rules, now, by=timing)
        return None
    if schedule.next_slot < newest:
        await _skip(session, schedule, newest, Skipped(SkipReason.MISSED), rules, by=timing)
    outcome = await _export_of(session, schedule, newest, rules)
    following = timing.slot_after(newest)
    schedule.put_off = None
    if isinstance(outcome, Skipped):
        if outcome.reason in PASSING and schedule.catch_up is CatchUp.LATEST:
            schedule.put_off = outcome.reason
            schedule.fires_at = min(now + TRIED_AGAIN_AFTER, timing.fires_at(following))
            await session.flush()
            return None
        await _skip(session, schedule, following, outcome, rules, by=timing)
        return None
    schedule.last_export, schedule.skips = outcome.id, 0
    schedule.skip_reason = schedule.skipping_since = schedule.skipped_at = None
    await _move_on(session, schedule, following, timing)
    return outcome


async def pass_over(
    session: AsyncSession, schedule: Schedule, reason: SkipReason, rules: Rules, now: datetime, *, by: Timing
) -> None:
    """Skip what is due by now in that timing, if anything is. The caller holds the schedule's row lock."""
    if by.fires_at(schedule.next_slot) <= now:
        following = by.slot_after(by.newest_due(schedule.next_slot, now))
        await _skip(session, schedule, following, Skipped(reason), rules, by=by)


async def skip_put_off(session: AsyncSession, schedule: Schedule, rules: Rules, *, by: Timing) -> None:
    """Skip the slot that is put off, if one is, for the reason that it was put off for. The caller holds the
    schedule's row lock.
    """
    if schedule.put_off:
        why, schedule.put_off = Skipped(schedule.put_off), None
        await _skip(session, schedule, by.slot_after(schedule.next_slot), why, rules, by=by)


def timing_of(schedule: Schedule) -> Timing:
    """When it fires."""
    return Timing(schedule.cron, schedule.timezone, schedule.jitter, schedule.id)


def submission_of(slot: Slot, wanted: AnyScheduled, watermark: datetime | None) -> Submission:
    """What is asked for at a slot. Raises `ValidationError` where that is no longer a valid request."""
    within = wanted.deliver_within
    return Submission(
        request=wanted.at(slot.at, watermark),
        priority=wanted.priority,
        labels=wanted.labels,
        max_age=wanted.max_age,
        deliver_by=slot.at + timedelta(seconds=within) if within else None,
        queue_ttl=wanted.queue_ttl,
        slot=slot,
    )


async def _export_of(
    session: AsyncSession, schedule: Schedule, slot: datetime, rules: Rules
) -> Export | Skipped:
    client = await session.get_one(Client, schedule.client, populate_existing=True)
    if client.revoked_at:
        return Skipped(SkipReason.CLIENT_REVOKED)
    if not client.may(Scope.EXPORTS_WRITE):
        return Skipped(SkipReason.GRANT_MISSING)
    try:
        asked = STORED.validate_python(schedule.export)
        watermark = await watermark_of(session, schedule.id)
        wanted = submission_of(Slot(schedule.id, slot), asked, watermark)
        if await _is_running(session, schedule) and not await _joins(session, client, wanted, rules):
            return Skipped(SkipReason.STILL_RUNNING)
        return await accept(session, client, wanted, rules)
    except ValidationError as error:
        return Skipped(SkipReason.REQUEST_REFUSED, error.errors()[0]["msg"])
    except ProblemError as error:
        return Skipped(_reason(client, schedule, error.problem.code), error.problem.detail)


def _reason(client: Client, schedule: Schedule, code: Code) -> SkipReason:
    if client.grant_for(schedule.workspace, schedule.kind) is None:
        return SkipReason.GRANT_MISSING
    return REASONS.get(code, SkipReason.WORKSPACE_REMOVED)


async def _is_running(session: AsyncSession, schedule: Schedule) -> bool:
    last = schedule.last_export
    export = await session.get(Export, last, populate_existing=True) if last else None
    return export is not None and export.status not in FINAL


async def _joins(session: AsyncSession, client: Client, wanted: Submission, rules: Rules) -> bool:
    """Whether there is a run young enough to be shared, so that no other is queued behind it."""
    return wanted.max_age > 0 and (await plan(session, client, wanted, rules)).shares is not None


async def _skip(
    session: AsyncSession, schedule: Schedule, until: datetime, why: Skipped, rules: Rules, *, by: Timing
) -> None:
    """Tell of all slots before `until` at once: after a long time there may be thousands."""
    await skip_put_off(session, schedule, rules, by=by)
    if schedule.next_slot >= until:
        return
    detail = {"detail": why.detail} if why.detail else {}
    await record(
        session,
        EventType.SCHEDULE_SKIPPED,
        actor=schedule.actor,
        lane=lane_of(schedule.workspace, schedule.kind, rules.lane_scope),
        data={
            "schedule": schedule.id,
            "slot": schedule.next_slot.isoformat(),
            "until": until.isoformat(),
            "reason": why.reason,
            **detail,
        },
    )
    if why.reason not in WANTED:
        moment = await database_now(session)
        schedule.skips, schedule.skip_reason = schedule.skips + 1, why.reason
        schedule.skipping_since, schedule.skipped_at = schedule.skipping_since or moment, moment
    await _move_on(session, schedule, until, by)


async def _move_on(session: AsyncSession, schedule: Schedule, to: datetime, timing: Timing) -> None:
    schedule.next_slot, schedule.fires_at = to, timing.fires_at(to)
    await session.flush()
