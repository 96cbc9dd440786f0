"""Asana as the worker sees it: every call paced, and made with the token the credential holds now."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.models import Credential, CredentialState, Kind
from app.access.vault import Vault
from app.asana.budget import CallBudget
from app.asana.client import AsanaClient
from app.asana.errors import NotAuthorized, RateLimited
from app.asana.schemas import Job
from app.clock import Clock
from app.events.log import EventType, record
from app.exports.models import Run
from app.ids import CredentialId
from app.lanes.notifications import CREDENTIALS, notify
from app.problems import Code, Problem

T = TypeVar("T")
log = structlog.get_logger()


class NotInWorkspace(Exception):
    """The parent of a graph export is somewhere else."""


@dataclass(frozen=True)
class KnownCredential:
    """A credential as last read from the database."""

    token: SecretStr
    invalid_since: datetime | None
    updated_at: datetime


class Upstream:
    """Calls of Asana, by credential. A limit that one worker meets is told to the others."""

    def __init__(
        self,
        asana: AsanaClient,
        sessions: async_sessionmaker[AsyncSession],
        vault: Vault,
        clock: Clock,
        calls_per_minute: int,
    ) -> None:
        self._asana = asana
        self._sessions = sessions
        self._vault = vault
        self._clock = clock
        self._calls_per_minute = calls_per_minute
        self._known: dict[CredentialId, KnownCredential] = {}
        self._budgets: dict[CredentialId, CallBudget] = {}

    async def start(self, run: Run, ready: Callable[[], None]) -> Job:
        """Start the run at Asana; `ready` is asked right before the call and may refuse it by raising.

        Raises `NotInWorkspace` for a graph export that would leave its workspace.
        """

        async def call(token: SecretStr) -> Job:
            match run.kind:
                case Kind.RESOURCE:
                    ready()
                    return await self._asana.create_resource_export(
                        token, run.request["workspace"], run.request["export_request_parameters"]
                    )
                case Kind.GRAPH:
                    await self._check_place(token, run)
                    ready()
                    return await self._asana.create_graph_export(token, run.request["parent"])

        return await self._call(run.credential, call)

    async def _check_place(self, token: SecretStr, run: Run) -> None:
        # The workspace of a graph export is only the caller's word, and a grant is for a workspace.
        parent = run.request["parent"]
        there = await self._asana.workspace_of(token, parent)
        if there != run.workspace:
            where = f"is in workspace {there}" if there else "cannot be seen with the workspace's credential"
            raise NotInWorkspace(f"{parent} {where}, not in workspace {run.workspace}.")

    async def job(self, run: Run) -> Job:
        """The run's job as it is now."""
        job = run.asana_job
        if job is None:
            raise ValueError(f"{run.id} has no job yet")
        return await self._call(run.credential, lambda token: self._asana.get_job(token, job))

    async def given_up(self, credential: CredentialId, after: float) -> Problem | None:
        """What to fail with once the credential has been invalid for so many seconds; None until then."""
        known = await self._credential(credential)
        if known.invalid_since is None:
            return None
        seconds = (self._clock.now() - known.invalid_since).total_seconds()
        if seconds < after:
            return None
        detail = f"The token has been invalid for {seconds:.0f} seconds and was not replaced."
        return Problem(Code.CREDENTIAL_REVOKED, detail)

    def forget(self, credential: CredentialId) -> None:
        """The credential has changed: read it again before the next call."""
        self._known.pop(credential, None)

    def forget_all(self) -> None:
        """Changes may have been missed."""
        self._known.clear()

    async def _call(self, credential: CredentialId, call: Callable[[SecretStr], Awaitable[T]]) -> T:
        budget = self._budget(credential)
        known = await self._credential(credential)
        await budget.turn()
        try:
            return await call(known.token)
        except RateLimited as limited:
            budget.hold_for(limited.retry_after)
            await self._limited(credential, limited.retry_after)
            raise
        except NotAuthorized:
            await self._refused(credential, known)
            raise

    def _budget(self, credential: CredentialId) -> CallBudget:
        return self._budgets.setdefault(credential, CallBudget(self._clock, self._calls_per_minute))

    async def _credential(self, credential: CredentialId) -> KnownCredential:
        if credential not in self._known:
            async with self._sessions() as session:
                row = await session.get_one(Credential, credential)
                limited_for = await session.scalar(
                    select(func.extract("epoch", Credential.limited_until - func.clock_timestamp())).where(
                        Credential.id == credential
                    )
                )
            if limited_for and limited_for > 0:
                self._budget(credential).hold_for(float(limited_for))
            self._known[credential] = KnownCredential(
                self._vault.decrypt(row.token), row.invalid_since, row.updated_at
            )
        return self._known[credential]

    async def _limited(self, credential: CredentialId, seconds: float) -> None:
        log.warning("asana.rate_limited", credential=credential, seconds=seconds)
        async with self._sessions.begin() as session:
            await session.execute(
                update(Credential)
                .where(Credential.id == credential)
                .values(limited_until=func.clock_timestamp() + timedelta(seconds=seconds))
            )
            await notify(session, CREDENTIALS, credential)

    async def _refused(self, credential: CredentialId, known: KnownCredential) -> None:
        """Asana does not accept the token: unless it was replaced meanwhile, the credential is invalid."""
        self.forget(credential)
        async with self._sessions.begin() as session:
            marked = await session.execute(
                update(Credential)
                .where(
                    Credential.id == credential,
                    Credential.state == CredentialState.VALID,
                    Credential.updated_at == known.updated_at,
                )
                .values(state=CredentialState.INVALID, invalid_since=func.now(), updated_at=func.now())
                .returning(Credential.id)
            )
            if marked.first():
                log.warning("credential.invalid", credential=credential)
                await record(session, EventType.CREDENTIAL_INVALID, actor="asana", credential=credential)
                await notify(session, CREDENTIALS, credential)
