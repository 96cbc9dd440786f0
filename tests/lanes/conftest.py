"""A tenant whose lanes are looked at."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.access.vault import Vault
from tests.builders import Tenant, a_tenant

Sessions = async_sessionmaker[AsyncSession]


@pytest.fixture
async def tenant(sessions: Sessions, vault: Vault) -> Tenant:
    async with sessions.begin() as session:
        return await a_tenant(session, vault)
