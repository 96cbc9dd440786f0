"""What the endpoints work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import httpx
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.credentials import check_keys
from app.access.vault import Vault, open_vault
from app.api.changes import Changes
from app.api.feed import Feed
from app.api.looks import Looks
from app.api.rate_limit import RequestRate
from app.artifacts.store import Store, open_store
from app.asana.client import AsanaClient
from app.clock import Clock, SystemClock
from app.database.migrate import is_behind
from app.database.session import open_database
from app.exports.accept import Rules
from app.exports.estimates import Estimate
from app.exports.parents import ParentSearch
from app.exports.reading import ExportView
from app.ids import ExportId
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    """Shared by all requests."""

    settings: Settings
    clock: Clock
    sessions: async_sessionmaker[AsyncSession]
    reads: async_sessionmaker[AsyncSession]
    vitals: async_sessionmaker[AsyncSession]
    asana: AsanaClient
    vault: Vault
    store: Store
    changes: Changes
    looks: Looks[ExportId, tuple[ExportView, Estimate | None]]
    health_looks: Looks[None, int | None]
    rate: RequestRate
    feed: Feed
    parents: ParentSearch
    # Set once the schema was seen to have what this version needs.
    migrated: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when the process is told to stop.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def rules(self) -> Rules:
        """What the settings say of accepting."""
        return Rules.of(self.settings)

    def close(self) -> None:
        """Nobody shall wait any longer: the process is about to end."""
        self.changes.close()
        self.feed.close()


@asynccontextmanager
async def open_services(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Services]:
    """Open them, and close them at the end.

    Raises `VaultError` when the keys are not those the tokens were encrypted with, and what `open_database`
    raises.
    """
    vault = open_vault(settings)
    async with (
        open_database(settings, patience=settings.database_timeout_seconds) as database,
        httpx.AsyncClient(timeout=settings.asana_timeout_seconds) as http,
    ):
        async with database.sessions() as session:
            if not await is_behind(session):
                await check_keys(session, vault)
        store = open_store(settings.files_url)
        asana = AsanaClient(http, settings.asana_url)
        clock = clock or SystemClock()
        changes = Changes(database.listen_conninfo, clock)
        # Those who wait shall leave connections to those who do not.
        at_once = max(1, settings.database_pool_size // 2)
        looks = Looks[ExportId, tuple[ExportView, Estimate | None]](at_once)
        feed = Feed(database.sessions, changes, clock, max(1, at_once // 2))
        parents = ParentSearch(
            database.sessions,
            vault,
            asana,
            clock,
            settings.asana_calls_per_minute,
            settings.asana_timeout_seconds,
        )
        rate = RequestRate(settings.requests_per_minute)
        running = [
            asyncio.create_task(changes.run(), name="listen for changes"),
            asyncio.create_task(feed.run(), name="read events"),
        ]
        try:
            yield Services(
                settings,
                clock,
                database.sessions,
                database.reads,
                database.vitals,
                asana,
                vault,
                store,
                changes,
                looks,
                Looks[None, int | None](1),
                rate,
                feed,
                parents,
            )
        finally:
            for task in running:
                task.cancel()


# As all dependencies async though it waits for nothing: FastAPI runs others in a pool of threads.
async def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]
