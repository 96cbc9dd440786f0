"""What takes long without waiting for the network: the async client has a thread do it."""

from collections.abc import Callable
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")


async def in_thread(work: Callable[..., T], *given: object) -> T:
    """What it returns; the event loop goes on meanwhile."""
    return await to_thread.run_sync(work, *given)


def here(work: Callable[..., T], *given: object) -> T:
    """The same for the sync client, which waits."""
    return work(*given)
