"""A file goes from state to state as it may, each time with an event; and what is told of it is checked."""

from itertools import product

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.artifacts.models import Artifact, ArtifactState
from app.artifacts.store import Store
from app.events.log import Cause, EventType
from app.exports.history import Promise
from app.exports.keeping import MAY_BECOME, change_artifact
from app.exports.models import Export
from app.exports.states import IllegalChange
from tests.builders import deleted
from tests.exports.test_history import done, found, plant, store

__all__ = ["done", "store"]
Sessions = async_sessionmaker[AsyncSession]
WAYS = {
    ArtifactState.AVAILABLE: (),
    ArtifactState.EXPIRING: (ArtifactState.EXPIRING,),
    ArtifactState.EXPIRED: (ArtifactState.EXPIRING, ArtifactState.EXPIRED),
    ArtifactState.DELETED: (ArtifactState.DELETED,),
}


async def brought_to(session: AsyncSession, *path: ArtifactState) -> Artifact:
    artifact = (await session.scalars(select(Artifact).with_for_update())).one()
    for state in path:
        kind = EventType.ARTIFACT_EXTENDED if state is ArtifactState.AVAILABLE else f"artifact.{state}"
        await change_artifact(session, artifact, state, EventType(kind), Cause("test"))
    return artifact


@pytest.mark.parametrize(("before", "after"), [*product(ArtifactState, ArtifactState)])
async def test_a_state_follows_another_as_it_may(
    sessions: Sessions, done: Export, before: ArtifactState, after: ArtifactState
) -> None:
    async with sessions.begin() as session:
        await brought_to(session, *WAYS[before])
    if after is before or after in MAY_BECOME[before]:
        async with sessions.begin() as session:
            artifact = await brought_to(session, after)
            assert (artifact.ended_at is None) is bool(MAY_BECOME[after])
    else:
        with pytest.raises(IllegalChange):
            async with sessions.begin() as session:
                await brought_to(session, after)


async def test_what_has_ended_stays_ended(sessions: Sessions, done: Export) -> None:
    async with sessions.begin() as session:
        artifact = await brought_to(session, ArtifactState.EXPIRING, ArtifactState.EXPIRED)
        with pytest.raises(IllegalChange):
            await deleted(session, artifact)


@pytest.mark.parametrize(
    "change",
    ["held_at = now(), state = 'expiring'", "state = 'expired'", "ended_at = now()", "removed_at = now()"],
)
async def test_the_database_itself_refuses_what_cannot_be(
    sessions: Sessions, done: Export, change: str
) -> None:
    with pytest.raises(DBAPIError, match="check constraint"):
        async with sessions.begin() as session:
            await session.execute(text(f"UPDATE artifacts SET {change}"))


async def test_an_end_is_checked_against_its_events_and_the_store(
    sessions: Sessions, done: Export, store: Store
) -> None:
    async with sessions.begin() as session:
        artifact = await brought_to(session, ArtifactState.EXPIRING)
    assert await found(sessions, store) == []
    async with sessions.begin() as session:
        artifact = await brought_to(session, ArtifactState.EXPIRED)
    assert await found(sessions, store) == []
    await plant(sessions, "UPDATE artifacts SET removed_at = now()")
    assert {violation.promise for violation in await found(sessions, store)} == {Promise.REMOVED}
    await store.delete(artifact.key)
    assert await found(sessions, store) == []
    await plant(sessions, "DELETE FROM events WHERE type = 'artifact.expired'")
    assert {violation.promise for violation in await found(sessions, store)} == {Promise.RECORDED}


async def test_an_expiring_file_that_is_gone_is_told(sessions: Sessions, done: Export, store: Store) -> None:
    async with sessions.begin() as session:
        artifact = await brought_to(session, ArtifactState.EXPIRING)
    await store.delete(artifact.key)
    assert {violation.promise for violation in await found(sessions, store)} == {Promise.FILE}
