"""A tenant whose history holds together at the end of each test."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from tests.builders import Tenant, a_tenant
from tests.history import check_history

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> AsyncIterator[Tenant]:
    async with sessions.begin() as session:
        tenant = await a_tenant(session, vault)
    yield tenant
    await check_history(sessions)
