"""One look for all who would look at the same at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Looks(Generic[K, V]):
    """A crowd that one change has woken reads it once, and over few connections, so that others stay free."""

    def __init__(self, at_once: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._due: dict[K, asyncio.Task[V]] = {}

    async def at(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        """What a look says that begins from now on; one that has begun before may be old already."""
        look = self._due.get(key)
        if look is None:
            look = self._due[key] = asyncio.create_task(self._look(key, read))
        return await asyncio.shield(look)

    async def _look(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        async with self._places:
            del self._due[key]
            return await read()
