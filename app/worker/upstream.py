"""Asana as the worker sees it: every call paced, and made with the token the credential holds now."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.access.credentials import note_limit, note_refusal
from app.access.models import Credential, Kind
from app.access.vault import Vault
from app.asana.budget import CallBudget
from app.asana.client import AsanaClient
from app.asana.errors import NotAuthorized, RateLimited
from app.asana.schemas import Job
from app.clock import Clock, woken_within
from app.exports.models import Run
from app.ids import CredentialId
from app.problems import Code, Problem
from app.worker.transactions import Transactions

T = TypeVar("T")
log = structlog.get_logger()


class NotInWorkspace(Exception):
    """The parent of a graph export is somewhere else."""


@dataclass(frozen=True)
class KnownCredential:
    """A credential as last read from the database; its seconds are by the database's clock."""

    token: SecretStr
    updated_at: datetime
    limited_for: float
    invalid_for: float | None


class Upstream:
    """Calls of Asana, by credential. A limit that one worker meets is told to the others."""

    def __init__(
        self, asana: AsanaClient, write: Transactions, vault: Vault, clock: Clock, calls_per_minute: int
    ) -> None:
        self._asana = asana
        self._write = write
        self._vault = vault
        self._clock = clock
        self._calls_per_minute = calls_per_minute
        self._known: dict[CredentialId, KnownCredential] = {}
        self._budgets: dict[CredentialId, CallBudget] = {}
        self._changed: dict[CredentialId, asyncio.Event] = {}
        self._reading = defaultdict[CredentialId, asyncio.Lock](asyncio.Lock)

    async def held_for(self, credential: CredentialId) -> float:
        """Seconds for which a rate limit keeps the credential from being used."""
        await self._credential(credential)
        return self._budget(credential).held_for

    async def _turn(self, credential: CredentialId, *, urgent: bool = False) -> None:
        await self._credential(credential)
        await self._budget(credential).turn(urgent=urgent)

    async def check_place(self, run: Run) -> None:
        """See that a graph export stays in its workspace: that is only the caller's word, but a grant is for
        a workspace. Raises `NotInWorkspace`."""
        if run.kind is not Kind.GRAPH:
            return
        parent = run.request["parent"]
        await self._turn(run.credential, urgent=True)
        there = await self._call(run.credential, lambda token: self._asana.workspace_of(token, parent))
        if there != run.workspace:
            where = f"is in workspace {there}" if there else "cannot be seen with the workspace's credential"
            raise NotInWorkspace(f"{parent} {where}, not in workspace {run.workspace}.")

    async def start(self, run: Run, ready: Callable[[], None]) -> Job:
        """Start the run at Asana, without waiting behind looks at jobs: a slot must not idle.

        `ready` is asked right before the request leaves, and may keep it from that by raising.
        """
        await self._turn(run.credential, urgent=True)

        async def call(token: SecretStr) -> Job:
            match run.kind:
                case Kind.RESOURCE:
                    return await self._asana.create_resource_export(
                        token, run.request["workspace"], run.request["export_request_parameters"], ready
                    )
                case Kind.GRAPH:
                    return await self._asana.create_graph_export(token, run.request["parent"], ready)

        return await self._call(run.credential, call)

    async def job(self, run: Run) -> Job:
        """The run's job as it is now."""
        job = run.asana_job
        if job is None:
            raise ValueError(f"{run.id} has no job yet")
        await self._turn(run.credential)
        return await self._call(run.credential, lambda token: self._asana.get_job(token, job))

    async def given_up(self, credential: CredentialId, after: float) -> Problem | None:
        """What to fail with once the credential has been invalid for so many seconds; None until then."""
        invalid_for = (await self._credential(credential)).invalid_for
        if invalid_for is None or invalid_for < after:
            return None
        detail = f"The token has been invalid for {invalid_for:.0f} seconds and was not replaced."
        return Problem(Code.CREDENTIAL_REVOKED, detail)

    async def until_changed(self, credential: CredentialId, seconds: float) -> None:
        """Wait for so many seconds, or until somebody has changed the credential."""
        await woken_within(self._clock, self._changed.setdefault(credential, asyncio.Event()), seconds)

    def forget(self, credential: CredentialId) -> None:
        """The credential has changed: read it again before the next call."""
        self._known.pop(credential, None)
        if changed := self._changed.pop(credential, None):
            changed.set()

    def forget_all(self) -> None:
        """Changes may have been missed."""
        for credential in [*self._known, *self._changed]:
            self.forget(credential)

    async def _call(self, credential: CredentialId, call: Callable[[SecretStr], Awaitable[T]]) -> T:
        known = await self._credential(credential)
        try:
            return await call(known.token)
        except RateLimited as limited:
            self._budget(credential).hold_for(limited.retry_after)
            log.warning("asana.rate_limited", credential=credential, seconds=limited.retry_after)
            await self._write(note_limit, credential, limited.retry_after)
            raise
        except NotAuthorized:
            # Nobody is woken: those who wait for another token would be refused, and wake us in turn.
            self._known.pop(credential, None)
            if await self._write(note_refusal, credential, known.updated_at):
                log.warning("credential.invalid", credential=credential)
            raise

    def _budget(self, credential: CredentialId) -> CallBudget:
        return self._budgets.setdefault(credential, CallBudget(self._clock, self._calls_per_minute))

    async def _credential(self, credential: CredentialId) -> KnownCredential:
        async with self._reading[credential]:
            if known := self._known.get(credential):
                return known
            changed = self._changed.setdefault(credential, asyncio.Event())
            known = await self._write(_read, credential, self._vault)
            self._budget(credential).hold_for(known.limited_for)
            # What has changed while it was read is read again the next time.
            if not changed.is_set():
                self._known[credential] = known
            return known


async def _read(session: AsyncSession, credential: CredentialId, vault: Vault) -> KnownCredential:
    row = await session.get_one(Credential, credential)
    now = func.clock_timestamp()
    limited_for, invalid_for = (
        await session.execute(
            select(
                func.extract("epoch", Credential.limited_until - now),
                func.extract("epoch", now - Credential.invalid_since),
            ).where(Credential.id == credential)
        )
    ).one()
    return KnownCredential(
        vault.decrypt(row.token),
        row.updated_at,
        float(limited_for or 0),
        None if invalid_for is None else float(invalid_for),
    )
