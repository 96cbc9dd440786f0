"""What must be true of every export after whatever a test did to it."""

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.artifacts.store import Store
from app.exports.history import violations
from tests.leaks import leaks_at_rest


async def check_history(sessions: async_sessionmaker[AsyncSession], store: Store | None = None) -> None:
    """No promise was broken, and no secret is readable at rest; with a store, its files are read too."""
    async with sessions() as session:
        broken = [violation async for violation in violations(session, store)]
    assert not broken, "\n".join(map(str, broken))
    assert not await leaks_at_rest(sessions)
