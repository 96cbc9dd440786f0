"""Files to be archived are held like lanes, and those lost with workers are suspect."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.exports.runs import (
    HeldArchive,
    archive_waits,
    archived,
    claim_archives,
    disown_archives,
    hold_archive,
    survived,
)
from app.lanes.claim import rescue_lanes
from app.lanes.lease import LaneLost
from app.lanes.models import WaitReason
from tests.builders import Tenant, an_artifact
from tests.lanes.stage import a_worker, archiving, queued
from tests.locks import until_somebody_waits

Sessions = async_sessionmaker[AsyncSession]


async def test_what_was_taken_over_is_not_archived_twice(sessions: Sessions, tenant: Tenant) -> None:
    first = await archiving(sessions, await queued(sessions, tenant))
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        assert await claim_archives(session, other, 10, suspect=True) == []
        await disown_archives(session, first.worker, [])
        (second,) = await claim_archives(session, other, 10, suspect=False)
    with pytest.raises(LaneLost):
        async with sessions.begin() as session:
            await archived(session, first, an_artifact(first), [])
    async with sessions.begin() as session:
        await archived(session, second, an_artifact(second), [])


async def lost_with_its_worker(sessions: Sessions, archive: HeldArchive) -> HeldArchive:
    """Its lease is over, and another one has the file."""
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        await session.execute(
            text("UPDATE workers SET lease_expires_at = now() - interval '1 s' WHERE id = :id"),
            {"id": archive.worker},
        )
        assert await claim_archives(session, other, 10, suspect=False) == []
        (taken,) = await claim_archives(session, other, 10, suspect=True)
    return taken


async def test_workers_that_vanish_with_a_file_are_counted_but_for_those_that_come_back(
    sessions: Sessions, tenant: Tenant
) -> None:
    first = await archiving(sessions, await queued(sessions, tenant))
    second = await lost_with_its_worker(sessions, first)
    third = await lost_with_its_worker(sessions, second)
    assert (first.lost, second.lost, third.lost) == (0, 1, 2)
    async with sessions.begin() as session:
        await survived(session, first.worker)
    assert (await lost_with_its_worker(sessions, third)).lost == 2


async def test_one_that_comes_back_before_its_file_is_taken_leaves_no_suspicion(
    sessions: Sessions, tenant: Tenant
) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))
    other = await a_worker(sessions)
    async with sessions.begin() as session:
        await survived(session, archive.worker)
        (taken,) = await claim_archives(session, other, 10, suspect=False)
    assert taken.lost == 0


async def test_a_try_that_ends_in_order_takes_the_suspicion_away(sessions: Sessions, tenant: Tenant) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))
    for _ in range(4):
        archive = await lost_with_its_worker(sessions, archive)
        assert archive.lost == 1
        async with sessions.begin() as session:
            await archive_waits(session, archive, WaitReason.BACKOFF)


async def test_a_success_whose_commit_is_under_way_is_not_taken_for_refused(
    sessions: Sessions, tenant: Tenant
) -> None:
    """The connection was lost, and the worker does it again while the server still works on the first try."""
    archive = await archiving(sessions, await queued(sessions, tenant))

    async def again() -> None:
        async with sessions.begin() as session:
            await archived(session, archive, an_artifact(archive), [])

    async with sessions.begin() as session:
        await archived(session, archive, an_artifact(archive), [])
        repeating = asyncio.create_task(again())
        await until_somebody_waits(sessions)
    await repeating


async def test_a_file_that_was_given_away_is_lost_even_to_the_same_worker(
    sessions: Sessions, tenant: Tenant
) -> None:
    archive = await archiving(sessions, await queued(sessions, tenant))

    async def is_lost() -> bool:
        try:
            async with sessions.begin() as session:
                await hold_archive(session, archive)
        except LaneLost:
            return True
        return False

    assert not await is_lost()
    async with sessions.begin() as session:
        await disown_archives(session, archive.worker, [])
    assert await is_lost()
    async with sessions.begin() as session:
        (again,) = await claim_archives(session, archive.worker, 1, suspect=False)
        await hold_archive(session, again)
    assert await is_lost()


async def test_a_file_lost_with_its_worker_is_claimed_apart_from_others(
    sessions: Sessions, tenant: Tenant
) -> None:
    lost = await archiving(sessions, await queued(sessions, tenant))
    async with sessions.begin() as session:
        await session.execute(text("UPDATE workers SET lease_expires_at = now() - interval '1 second'"))
        await rescue_lanes(session)
    sound = await archiving(sessions, await queued(sessions, tenant))
    worker = await a_worker(sessions)
    async with sessions.begin() as session:
        await disown_archives(session, sound.worker, [])
        for suspect, archive in ((False, sound), (True, lost)):
            claims = await claim_archives(session, worker, 10, suspect=suspect)
            assert [claim.run for claim in claims] == [archive.run]
