"""Secrets, wherever they might be seen: all output of the tests and of their processes is looked through."""

import re

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from app.database.base import Base
from app.sandbox import SERVICE_TOKEN

# The token that nearly every test works with, those some plant, API keys, secrets of webhooks, and keys that
# encrypt tokens.
SECRET = re.compile(
    rf"{SERVICE_TOKEN}|planted[\w-]*token|aex_[0-9A-Za-z]+_[\w-]{{43}}|whsec_[0-9A-Za-z+/]{{43}}=|(?<![\w=-])[\w-]{{43}}=(?![\w=-])"
)


def leaks(output: str) -> set[str]:
    """What of it is secret."""
    return set(SECRET.findall(output))


async def leaks_at_rest(sessions: async_sessionmaker[AsyncSession]) -> set[str]:
    """What can be read in the database."""
    found = set[str]()
    async with sessions() as session:
        for table in Base.metadata.sorted_tables:
            rows = await session.stream_scalars(text(f"SELECT t::text FROM {table.name} AS t"))
            async for row in rows:
                found |= leaks(row)
    return found
