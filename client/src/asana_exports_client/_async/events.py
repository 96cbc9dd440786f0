"""What happened, in one order for all who follow it."""

from collections.abc import AsyncIterator, Sequence
from random import uniform
from typing import Any

import anyio
import httpx
import msgspec
from httpx_sse import EventSource

from asana_exports_client._async.http import Http
from asana_exports_client._requests import id_of
from asana_exports_client.models import EventPage, Export, FeedEvent

# How long the service may be away before following is given up, and the pause before the first try.
AWAY_SECONDS = 900.0
RECONNECT_SECONDS = 1.0


class Events:
    """The events that the key may see. `after` is a cursor, or `latest` for what happens from now on."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def page(
        self,
        after: str | None = None,
        *,
        export: Export | str | None = None,
        workspace: str | None = None,
        types: Sequence[str] = (),
        page_size: int | None = None,
    ) -> EventPage:
        """What follows a cursor; `has_more` tells whether to go on at once.

        Raises `problems.CursorExpired` where what follows is no longer kept.
        """
        query = _query(after, export, workspace, types) | {"page_size": page_size}
        return await self._http.call("GET /v1/events", EventPage, query=query)

    async def list(
        self,
        after: str | None = None,
        *,
        export: Export | str | None = None,
        workspace: str | None = None,
        types: Sequence[str] = (),
    ) -> AsyncIterator[FeedEvent]:
        """All events so far, read page by page. Raises as `page` does."""
        while True:
            page = await self.page(after, export=export, workspace=workspace, types=types)
            for event in page.items:
                yield event
            if not page.has_more:
                return
            after = page.cursor

    async def follow(
        self,
        after: str | None = None,
        *,
        export: Export | str | None = None,
        workspace: str | None = None,
        types: Sequence[str] = (),
    ) -> AsyncIterator[FeedEvent]:
        """Events as they happen, without an end.

        A stream that breaks goes on where it was; keep the `cursor` of the last event you are done with, to
        go on from it later. Raises `problems.CursorExpired` as `page` does, and what ends it for good, as
        `problems.Unauthenticated`.
        """
        query = _query(after, export, workspace, types)
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        pause, patience = RECONNECT_SECONDS, self._http.patience
        while True:
            try:
                async with self._http.stream(
                    "/v1/events", query=query, headers=headers, patience=patience
                ) as stream:
                    patience = AWAY_SECONDS
                    async for told in EventSource(stream).aiter_sse():
                        headers |= {"Last-Event-ID": told.id} if told.id else {}
                        pause = pause if told.retry is None else told.retry / 1000
                        if told.data:
                            yield msgspec.json.decode(told.data, type=FeedEvent)
            except httpx.TransportError:
                pass  # gone on with below, as where the service has ended it
            await anyio.sleep(pause * uniform(0.5, 1))  # noqa: S311


def _query(
    after: str | None, export: Export | str | None, workspace: str | None, types: Sequence[str]
) -> dict[str, Any]:
    about = None if export is None else id_of(export)
    return {"after": after, "export": about, "workspace": workspace, "type": [*types] or None}
