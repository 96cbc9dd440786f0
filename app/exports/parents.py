"""In which workspace a goal, project, portfolio or team is: Asana's graph exports do not say."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from app.access.credentials import note_limit, note_refusal
from app.access.models import Client, Credential, CredentialState, Kind, Workspace
from app.access.vault import Vault
from app.asana.budget import CallBudget
from app.asana.client import PARENTS, AsanaClient
from app.asana.errors import AsanaError, NotAuthorized, PlanRequired, RateLimited
from app.clock import Clock
from app.database.base import Base
from app.ids import CredentialId
from app.problems import Code, Fault, ProblemError

RETRY_AFTER = 30
BURST = 10

log = structlog.get_logger()


class Parent(Base):
    """Where Asana has said that the parent of a graph export is. It never moves."""

    __tablename__ = "parents"

    gid: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str] = mapped_column(ForeignKey("workspaces.gid"))
    found_at: Mapped[datetime] = mapped_column(server_default=func.now())


@dataclass(frozen=True)
class Opener:
    """A credential that opens workspaces, as it was when read; its token is encrypted."""

    id: CredentialId
    token: bytes
    updated_at: datetime
    is_valid: bool
    limited_for: float
    workspaces: list[str] = field(default_factory=list)


class ParentSearch:
    """Asks Asana where parents are, each one once, and no faster than a token may be used.

    Nothing of the database is held meanwhile. `longest` are the seconds after which it is given up.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        vault: Vault,
        asana: AsanaClient,
        clock: Clock,
        calls_per_minute: int,
        longest: float,
    ) -> None:
        self._sessions = sessions
        self._vault = vault
        self._asana = asana
        self._clock = clock
        # A gid does not tell what it names: each look may take a call for each kind.
        self._looks_per_minute = max(1, calls_per_minute // len(PARENTS))
        self._longest = longest
        self._budgets: dict[CredentialId, CallBudget] = {}

    async def workspace_for(self, client: Client, parent: str) -> str:
        """The workspace of a client's graph export that names none: its default one, the only one it may
        export graphs of, or else that of the parent, among those.

        Raises `ProblemError`: `validation-failed` where there is none, `upstream-unavailable` where that
        cannot be found out now.
        """
        if client.default_workspace:
            return client.default_workspace
        async with self._sessions() as session:
            openers = await _openers(session, client)
            known = await session.get(Parent, parent)
        granted = [workspace for opener in openers for workspace in opener.workspaces]
        if len(granted) == 1:
            return granted[0]
        found = known.workspace if known else await self._asked(openers, parent)
        if found is None or found not in granted:
            raise _nowhere(parent, granted)
        if not known:
            await self._remember(parent, found)
        return found

    async def _asked(self, openers: Sequence[Opener], parent: str) -> str | None:
        """What the first credential says that sees it; a failure, where none does and not all could look."""
        looks = [asyncio.create_task(self._look(opener, parent)) for opener in openers]
        failure: ProblemError | None = None
        try:
            async with asyncio.timeout(self._longest):
                for look in asyncio.as_completed(looks):
                    try:
                        if found := await look:
                            return found
                    except ProblemError as error:
                        failure = error
        except TimeoutError:
            failure = _unavailable(parent, f"nothing for {self._longest:g} seconds")
        finally:
            for each in looks:
                each.cancel()
            await asyncio.gather(*looks, return_exceptions=True)
        if failure:
            raise failure
        return None

    async def _look(self, opener: Opener, parent: str) -> str | None:
        if not opener.is_valid:
            raise _unavailable(parent, f"that the token of workspace {opener.workspaces[0]} is not valid")
        if opener.limited_for > 0:
            raise _unavailable(parent, "to be asked later", math.ceil(opener.limited_for))
        budget = self._budgets.setdefault(
            opener.id, CallBudget(self._clock, self._looks_per_minute, burst=BURST)
        )
        await budget.turn()
        try:
            return await self._asana.workspace_of(self._vault.decrypt(opener.token), parent)
        except RateLimited as limited:
            await self._note_limit(opener, limited.retry_after)
            raise _unavailable(parent, str(limited), math.ceil(limited.retry_after)) from None
        except NotAuthorized as error:
            await self._note_refusal(opener)
            raise _unavailable(parent, str(error)) from None
        except PlanRequired:
            return None
        except AsanaError as error:
            raise _unavailable(parent, str(error)) from None

    async def _note_limit(self, opener: Opener, seconds: float) -> None:
        log.warning("asana.rate_limited", credential=opener.id, seconds=seconds)
        async with self._sessions.begin() as session:
            await note_limit(session, opener.id, seconds)

    async def _note_refusal(self, opener: Opener) -> None:
        async with self._sessions.begin() as session:
            if await note_refusal(session, opener.id, opener.updated_at):
                log.warning("credential.invalid", credential=opener.id)

    async def _remember(self, parent: str, workspace: str) -> None:
        async with self._sessions.begin() as session:
            values = {"gid": parent, "workspace": workspace}
            await session.execute(insert(Parent).values(values).on_conflict_do_nothing())


async def _openers(session: AsyncSession, client: Client) -> list[Opener]:
    """The credentials of the workspaces that the client may export graphs of."""
    limited_for = func.extract("epoch", Credential.limited_until - func.clock_timestamp())
    rows = await session.execute(
        select(Workspace.gid, Credential, limited_for)
        .join(Credential, Credential.id == Workspace.credential)
        .where(Workspace.removed_at.is_(None))
        .order_by(Workspace.gid)
    )
    openers: dict[CredentialId, Opener] = {}
    for gid, credential, seconds in rows:
        if not client.grant_for(gid, Kind.GRAPH):
            continue
        opener = openers.setdefault(
            credential.id,
            Opener(
                credential.id,
                credential.token,
                credential.updated_at,
                credential.state is CredentialState.VALID,
                float(seconds or 0),
            ),
        )
        opener.workspaces.append(gid)
    return list(openers.values())


def _nowhere(parent: str, granted: Sequence[str]) -> ProblemError:
    why = (
        f"Asana shows no goal, project, portfolio or team {parent} in the workspaces that you may export "
        "graphs of; check the gid, or ask an administrator for a grant"
        if granted
        else "there is no workspace that you may export graphs of; ask an administrator for a grant"
    )
    return ProblemError(Code.VALIDATION_FAILED, "The request has 1 fault.", (Fault("/data/parent", why),))


def _unavailable(parent: str, answer: str, retry_after: int = RETRY_AFTER) -> ProblemError:
    detail = (
        f"Asana was asked which workspace {parent} is in, and answered: {answer}. Ask again later, or name "
        "the workspace, as `workspace` beside `parent`."
    )
    return ProblemError(Code.UPSTREAM_UNAVAILABLE, detail, retry_after=retry_after)
