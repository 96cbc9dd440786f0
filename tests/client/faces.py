"""Both faces of the client, told by the same stories."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

from asana_exports_client import AsyncClient, Client

FACES = ["async", "sync"]
END = object()


def face(name: str, url: str, key: str, **options: Any) -> AsyncClient:
    """The client of that name; the sync one as if it were async, each call in a thread."""
    if name == "async":
        return AsyncClient(url, key, **options)
    return cast("AsyncClient", Threaded(Client(url, key, **options)))


class Threaded:
    """A sync thing whose methods are awaited and whose iterators are async."""

    def __init__(self, thing: Any) -> None:
        self._thing = thing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._thing, name)
        if inspect.isgeneratorfunction(found):
            return lambda *given, **named: iterated(found(*given, **named))
        if not inspect.ismethod(found):
            return shown(found)

        async def called(*given: Any, **named: Any) -> Any:
            return shown(await asyncio.to_thread(found, *given, **named))

        return called

    async def aclose(self) -> None:
        await asyncio.to_thread(self._thing.close)


def shown(found: Any) -> Any:
    return Threaded(found) if type(found).__module__.startswith("asana_exports_client._sync") else found


async def iterated(items: Iterator[Any]) -> AsyncIterator[Any]:
    while (item := await asyncio.to_thread(next, items, END)) is not END:
        yield item
