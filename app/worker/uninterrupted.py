"""Steps that are finished though the process is told to stop."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger()


async def uninterrupted(step: Coroutine[Any, Any, T]) -> T:
    """Finish a step before being canceled: between its parts lies a moment in which an interruption would
    leave something that nobody knows, such as a job at Asana or a file."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        log.info("step.interrupted_at_its_end", outcome=repr(task.exception() or "done"))
        raise
