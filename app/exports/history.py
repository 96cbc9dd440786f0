"""Whether the promises were kept: what the event log, the tables and the store say of each other."""

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from sqlalchemy import Select, and_, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.models import EVERYBODY
from app.artifacts.models import ENDED, KEPT, Artifact, OutputFile
from app.artifacts.store import NotStored, Store, StoreFailed
from app.events.log import Event, EventType
from app.events.placing import EventFeed
from app.exports.models import Export, Status
from app.exports.reading import ExportFilter, ExportView, export_views
from app.exports.states import FINAL, LIVE, MAY_BECOME
from app.ids import ExportId, LaneKey, RunId
from app.webhooks.promises import broken_promises

AT_ONCE = 500
# An export is still queued for its caller while its run is only tried, and may be canceled then.
AN_EXPORT_MAY_BECOME = MAY_BECOME | {Status.QUEUED: MAY_BECOME[Status.QUEUED] | {Status.CANCELING}}

# Between two rows a large file may be read; nobody waits for the locks of a reader.
TAKE_YOUR_TIME = text("SET LOCAL idle_in_transaction_session_timeout = 0")

T = TypeVar("T")


class Promise(StrEnum):
    """What is promised."""

    RECORDED = "every change is an event"
    ONE_STEP = "a status follows another as it may"
    ONE_END = "an export ends once"
    ONE_SLOT = "one run at a time holds a lane's slot"
    LATENCY = "the parts of the latency add up"
    FILE = "a succeeded export has its verified file"
    REMOVED = "what was removed is gone"
    TOLD = "a webhook endpoint is told of what it wants to know"


@dataclass(frozen=True)
class Violation:
    """A promise that was not kept, by what, and how that shows."""

    promise: Promise
    subject: str
    detail: str


async def violations(
    session: AsyncSession, store: Store | None = None, *, webhook_days: int | None = None
) -> AsyncIterator[Violation]:
    """Go through everything that is kept, some at a time; with a store, its files are read too. Deliveries of
    webhooks may be forgotten after so many days.

    The session has to be fresh: all is seen as of one moment, though the service goes on.
    """
    await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    await session.execute(TAKE_YOUR_TIME)
    forgotten_until = await session.scalar(select(EventFeed.forgotten_until))
    async for view, story in _exports(session):
        is_forgotten = not story and _ended_by(view.export, forgotten_until)
        for found in (*(() if is_forgotten else _in_story(view, story)), *_in_times(view)):
            yield found
    async for found in _in_slots(session):
        yield found
    async for found in _in_ends(session):
        yield found
    async for broken in broken_promises(session, webhook_days):
        yield Violation(Promise.TOLD, broken.endpoint, broken.detail)
    if store:
        async for found in _in_files(session, store):
            yield found


async def _exports(session: AsyncSession) -> AsyncIterator[tuple[ExportView, Sequence[Event]]]:
    before: ExportId | None = None
    while views := await export_views(session, EVERYBODY, ExportFilter(), before=before, most=AT_ONCE):
        stories = defaultdict[str | None, list[Event]](list)
        ids = [view.export.id for view in views]
        # A note on its content is no change of an export.
        changes = select(Event).where(Event.export.in_(ids), Event.type != EventType.SCHEMA_CHANGED)
        for event in await session.scalars(changes.order_by(Event.seq)):
            stories[event.export].append(event)
        for view in views:
            yield view, stories[view.export.id]
        before = views[-1].export.id
        session.expunge_all()


def _ended_by(export: Export, moment: datetime | None) -> bool:
    """Whether its events may have been forgotten, which they are together."""
    return moment is not None and export.finished_at is not None and export.finished_at <= moment


def _in_story(view: ExportView, story: Sequence[Event]) -> Iterator[Violation]:
    export = view.export
    versions = [event.data.get("version") for event in story]
    if not story or story[0].type != EventType.EXPORT_CREATED or versions != [*range(1, len(story) + 1)]:
        yield Violation(Promise.RECORDED, export.id, f"its events have the versions {versions}")
        return
    statuses = [Status(event.data["status"]) for event in story]
    if (statuses[-1], len(story)) != (export.status, export.version):
        detail = f"is {export.status} in version {export.version}, but {statuses[-1]} in {len(story)} events"
        yield Violation(Promise.RECORDED, export.id, detail)
    for event, (before, after) in zip(story[1:], pairwise(statuses), strict=True):
        if before in FINAL:
            yield Violation(Promise.ONE_END, export.id, f"was {before}, and became {after}")
        elif after is not before and after not in AN_EXPORT_MAY_BECOME[before] and not _of_one_export(event):
            yield Violation(Promise.ONE_STEP, export.id, f"was {before}, and became {after}")


def _in_times(view: ExportView) -> Iterator[Violation]:
    export = view.export
    parts = asdict(view.latency)
    total = parts.pop("total_ms")
    if sum(parts.values()) != total or min(parts.values()) < 0:
        yield Violation(Promise.LATENCY, export.id, f"{parts} in {total} ms")


async def _in_slots(session: AsyncSession) -> AsyncIterator[Violation]:
    """By the order of writing, which within a lane is that of commit: its row is locked meanwhile."""
    holders: dict[LaneKey, RunId] = {}
    of_runs = select(Event).where(Event.lane.is_not(None), Event.run.is_not(None))
    async for event in _streamed(session, of_runs.order_by(Event.seq)):
        if event.lane is None or event.run is None or _of_one_export(event):
            continue
        if event.data.get("status") in LIVE:
            if (holder := holders.setdefault(event.lane, event.run)) != event.run:
                detail = f"{event.run} took the slot at {event.created_at}, while {holder} held it"
                yield Violation(Promise.ONE_SLOT, event.lane, detail)
            holders[event.lane] = event.run
        elif holders.get(event.lane) == event.run:
            del holders[event.lane]


def _of_one_export(event: Event) -> bool:
    """Whether it tells of an export that joined or left a run, which itself did not change."""
    return bool(event.data.get("joined_run") or event.data.get("left_run"))


async def _in_ends(session: AsyncSession) -> AsyncIterator[Violation]:
    """Each file that has ended has one event that tells so, if it is not forgotten, and no other has one."""
    kept_since = await session.scalar(select(func.min(Event.created_at)).where(Event.export.is_(None)))
    ends = [EventType.ARTIFACT_EXPIRED, EventType.ARTIFACT_DELETED]
    told = func.array_remove(func.array_agg(Event.type), None)
    stories = select(Artifact.id, Artifact.state, Artifact.ended_at, told).outerjoin(
        Event, and_(Event.run == Artifact.run, Event.type.in_(ends))
    )
    rows = await session.stream(stories.group_by(Artifact.id).execution_options(yield_per=AT_ONCE))
    async for artifact, state, ended_at, events in rows:
        is_forgotten = ended_at and kept_since and ended_at < kept_since and not events
        if not is_forgotten and events != ([f"artifact.{state}"] if state in ENDED else []):
            yield Violation(Promise.RECORDED, artifact, f"is {state}, but its events are {events}")


async def _in_files(session: AsyncSession, store: Store) -> AsyncIterator[Violation]:
    without = select(Export.id).outerjoin(Artifact, Artifact.run == Export.run)
    for export in await session.scalars(
        without.where(Export.status == Status.SUCCEEDED, Artifact.id.is_(None))
    ):
        yield Violation(Promise.FILE, export, "has succeeded without an artifact")
    is_kept = Artifact.state.in_(KEPT)
    made = select(OutputFile).join(Artifact, Artifact.id == OutputFile.artifact)
    async for artifact in _streamed(session, select(Artifact).where(is_kept).order_by(Artifact.id)):
        if fault := await _fault_of(artifact, store):
            yield Violation(Promise.FILE, artifact.id, fault)
    async for output in _streamed(session, made.where(is_kept).order_by(OutputFile.id)):
        if fault := await _fault_of(output, store):
            yield Violation(Promise.FILE, output.id, fault)
    gone = select(Artifact).where(Artifact.removed_at.is_not(None)).order_by(Artifact.id)
    async for artifact in _streamed(session, gone):
        with suppress(NotStored, StoreFailed):
            size = await store.size(artifact.key)
            yield Violation(Promise.REMOVED, artifact.id, f"{artifact.key} is there with {size} bytes")


async def _fault_of(kept: Artifact | OutputFile, store: Store) -> str | None:
    digest = hashlib.sha256()
    try:
        file = await store.open(kept.key)
        async for piece in file.chunks():
            digest.update(piece)
    except (NotStored, StoreFailed) as error:
        return f"{kept.key} cannot be read: {type(error).__name__}"
    if file.size != kept.bytes or digest.hexdigest() != kept.sha256:
        return f"{kept.key} is not the file that was verified"
    return None


async def _streamed(session: AsyncSession, statement: Select[T]) -> AsyncIterator[T]:
    rows = await session.stream_scalars(statement.execution_options(yield_per=AT_ONCE))
    async for row in rows:
        yield row
        session.expunge(row)
