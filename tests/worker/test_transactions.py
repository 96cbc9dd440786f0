"""Which errors of the database are outlasted."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.worker.context import Context


async def test_a_step_outlasts_a_connection_that_is_lost(ctx: Context) -> None:
    tries = 0

    async def step(session: AsyncSession) -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return f"done in try {tries}"

    assert await ctx.write(step) == "done in try 2"


async def test_a_fault_of_our_own_is_not_repeated(ctx: Context) -> None:
    tries = 0

    async def step(session: AsyncSession) -> None:
        nonlocal tries
        tries += 1
        assert tries == 1
        await session.execute(text("SELECT nonsense"))

    with pytest.raises(ProgrammingError):
        await ctx.write(step)
