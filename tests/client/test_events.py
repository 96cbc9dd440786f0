"""Events, in pages and as they happen, also when the service restarts meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from asana_exports_client import problems
from asana_exports_client.models import FeedEvent
from tests.client.conftest import ClientAt, port_of
from tests.processes import until
from tests.system.conftest import Service


async def test_events_are_followed_over_a_restart(service: Service, client_at: ClientAt) -> None:
    api = service.api()
    url = await api.address()
    client = client_at(url)
    latest = (await client.events.page("latest")).cursor
    first = await client.export_resource("1001", "team")
    seen: list[FeedEvent] = []

    async def follow(events: AsyncIterator[FeedEvent]) -> None:
        async for event in events:
            seen.append(event)
            if event.type == "export.canceled":
                return

    following = asyncio.create_task(follow(client.events.follow(latest, workspace="1001")))

    async def seen_one() -> bool | None:
        return bool(seen) or None

    await until(seen_one, 60, lambda: "an event")
    api.kill()
    await service.api(PORT=port_of(url)).address()
    second = await client.export_resource("1001")
    await client.cancel(second)
    await asyncio.wait_for(following, 120)
    assert [(event.type, event.data.id) for event in seen] == [
        ("export.created", first.id),
        ("export.created", second.id),
        ("export.canceled", second.id),
    ]

    pages = [event async for event in client.events.list(latest, workspace="1001")]
    assert pages == seen
    created = client.events.list(latest, types=["export.created", "export.failed"])
    assert [event.id async for event in created] == [seen[0].id, seen[1].id]
    page = await client.events.page(latest, export=second, page_size=1)
    assert ([event.id for event in page.items], page.has_more) == ([seen[1].id], True)
    assert [event.id async for event in client.events.list(page.cursor, export=second)] == [seen[2].id]
    with pytest.raises(problems.CursorExpired):
        await client.events.page("999999999")
    with pytest.raises(problems.CursorExpired):
        _ = [event async for event in client.events.follow("999999999")]
