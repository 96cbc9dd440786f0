"""What must be true of every export after whatever a test did to it."""

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.artifacts.store import LocalStore
from app.exports.history import violations


async def check_history(sessions: async_sessionmaker[AsyncSession], store: LocalStore | None = None) -> None:
    """No promise was broken; with a store, its files are read too."""
    async with sessions() as session:
        broken = [violation async for violation in violations(session, store)]
    assert not broken, "\n".join(map(str, broken))
