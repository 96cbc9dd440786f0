"""Schedules when clocks are wrong, or put forward and back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

import app.worker.process
from app.access.vault import Vault
from app.clock import SystemClock
from app.database.session import open_database
from app.exports.accept import Rules
from app.exports.cancel import cancel
from app.exports.firing import due_schedules, fire
from app.exports.models import Export
from app.worker.process import run_worker
from tests.builders import a_schedule, a_tenant
from tests.processes import until
from tests.system.conftest import Service

MOVED = text("UPDATE schedules SET next_slot = now() + :away, fires_at = now() + :away WHERE id = :id")


async def test_23_no_slot_is_fired_early_by_a_worker_whose_clock_is_fast(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AheadClock(SystemClock):
        def now(self) -> datetime:
            return super().now() + timedelta(minutes=10)

    monkeypatch.setattr(app.worker.process, "DEADLINE_SECONDS", 0.1)
    async with service.sessions.begin() as session:
        tenant, now = service.tenants["1001"], datetime.now(UTC)
        early, due = [await a_schedule(session, tenant, now) for _ in range(2)]
        await session.execute(MOVED, {"id": early, "away": timedelta(minutes=9)})

    async def fired() -> list[str | None]:
        async with service.sessions() as session:
            return list(await session.scalars(select(Export.schedule)))

    async def fired_any() -> bool | None:
        return bool(await fired()) or None

    stop = asyncio.Event()
    async with open_database(service.settings) as database:
        ahead = asyncio.create_task(run_worker(service.settings, database, stop, AheadClock()))
        async with service.sessions.begin() as session:
            await session.execute(MOVED, {"id": due, "away": timedelta()})
        await until(fired_any, 20, lambda: "the export that is due")
        stop.set()
        await ahead
    assert await fired() == [due]


# From before until after the clock is put forward or back, by UTC.
NIGHTS = {
    ("Europe/Berlin", "30 2 * * *"): ("2026-03-27", "2026-10-23"),
    ("America/New_York", "30 1 * * *"): ("2026-03-07", "2026-10-31"),
    ("America/New_York", "30 2 * * *"): ("2026-03-07", "2026-10-31"),
    ("Australia/Lord_Howe", "45 1 * * *"): ("2026-04-03", "2026-10-02"),
    ("Australia/Lord_Howe", "15 2 * * *"): ("2026-04-03", "2026-10-02"),
}


@pytest.mark.parametrize(("zone", "cron"), NIGHTS)
async def test_23_each_night_has_its_export_when_clocks_are_put_forward_and_back(
    sessions: async_sessionmaker[AsyncSession], vault: Vault, zone: str, cron: str
) -> None:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    for start in NIGHTS[zone, cron]:
        first = datetime.fromisoformat(f"{start}T12:00:00+00:00")
        async with sessions.begin() as session:
            schedule = await a_schedule(session, tenant, first, cron=cron, timezone=zone)
        nights = 4
        for minutes in range(0, nights * 1440, 15):
            now = first + timedelta(minutes=minutes)
            async with sessions() as session:
                due = await due_schedules(session, now)
            for each in due:
                async with sessions.begin() as session:
                    export = await fire(session, each, Rules(), now)
                assert export
                async with sessions.begin() as session:
                    await cancel(session, export.id, actor="test", request_id=None)
        async with sessions.begin() as session:
            slots = list(
                await session.scalars(
                    select(Export.slot).where(Export.schedule == schedule).order_by(Export.slot)
                )
            )
            await session.execute(text("UPDATE schedules SET paused_at = now()"))
        assert len(slots) == nights
