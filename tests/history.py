"""What must be true of every export after whatever a test did to it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Client, Scope
from app.events.log import Event
from app.exports.models import Status
from app.exports.reading import ExportFilter, ExportView, export_views
from app.exports.states import FINAL, LIVE, MAY_BECOME

EVERYBODY = Client(id="cli_0", name="checker", scopes=[Scope.ADMIN], grants=[])


async def check_history(sessions: async_sessionmaker[AsyncSession]) -> None:
    """Latency parts add up, statuses follow each other as they may, slots are held by one at a time."""
    async with sessions() as session:
        views = await export_views(session, EVERYBODY, ExportFilter(), before=None, most=10_000)
        events = (await session.scalars(select(Event).order_by(Event.seq))).all()
    stories = defaultdict[str, list[Event]](list)
    for event in events:
        if event.export:
            stories[event.export].append(event)
    for view in views:
        _check_latency(view)
        _check_story(view, stories[view.export.id])
    _check_slots(events)


def _check_latency(view: ExportView) -> None:
    latency, export = view.latency, view.export
    parts = (
        latency.behind_others_ms,
        latency.external_ms,
        latency.backoff_ms,
        latency.paused_ms,
        latency.run_ms,
        latency.archive_ms,
    )
    assert sum(parts) == latency.total_ms, (export.id, latency)
    assert min(parts) >= 0, (export.id, latency)
    if export.finished_at:
        assert latency.total_ms == int((export.finished_at - export.created_at).total_seconds() * 1000)
    assert (view.wait_reason is not None) or export.status is not Status.QUEUED


def _check_story(view: ExportView, story: list[Event]) -> None:
    statuses = [Status(event.data["status"]) for event in story if event.type.startswith("export.")]
    assert story[0].type == "export.created"
    assert [event.data["version"] for event in story] == list(range(1, len(story) + 1))
    assert statuses[-1] is view.export.status
    joined = any(event.data.get("joined_run") for event in story)
    left = any(event.data.get("left_run") for event in story)
    for before, after in pairwise(statuses):
        assert before not in FINAL
        assert after is before or after in MAY_BECOME[before] or joined or left
    assert sum(status in FINAL for status in statuses) == (view.export.status in FINAL)


def _check_slots(events: Sequence[Event]) -> None:
    """By the event log, no two runs of a lane hold its slot at the same time."""
    holder: dict[str, str] = {}
    since: dict[str, datetime] = {}
    for event in events:
        if not (event.lane and event.run) or event.data.get("left_run") or event.data.get("joined_run"):
            continue
        if event.data.get("status") in LIVE:
            assert holder.get(event.lane, event.run) == event.run, (event.lane, since)
            holder[event.lane], since[event.lane] = event.run, event.created_at
        elif holder.get(event.lane) == event.run:
            del holder[event.lane]
