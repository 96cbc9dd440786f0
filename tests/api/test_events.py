"""The event feed over HTTP: pages and streams, to each what they may see."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlparse

import httpx
import pytest
from sqlalchemy import text

from app.access.clients import GrantSpec
from app.access.models import Scope
from app.api.feed import KEPT
from app.clock import SystemClock
from app.events.log import Cause, EventType, new_event, record, record_all
from app.exports.models import Export, Status
from app.ids import LaneKey
from app.lanes.control import pause, resume
from app.lanes.enqueue import enter_lane
from tests.api.conftest import NIGHTLY, Api, other_tasks, served
from tests.api.test_exports import brought_to
from tests.builders import another_workspace
from tests.processes import until

READ, WRITE = Scope.EXPORTS_READ, Scope.EXPORTS_WRITE
Json = dict[str, Any]


@dataclass
class Stream:
    """What an EventSource would make of a response, line by line (WHATWG HTML, section 9.2.6)."""

    response: httpx.Response
    events: list[tuple[str, Json]] = field(default_factory=list)
    last_id: str = ""
    retry: int | None = None
    comments: int = 0

    async def read(self) -> None:
        """Until it ends."""
        kind, data = "", ""
        async for line in self.response.aiter_lines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "" if line:
                    self.comments += 1
                case "" if data:
                    self.events.append((kind, json.loads(data)))
                    kind, data = "", ""
                case "event":
                    kind = value
                case "data":
                    data += value
                case "id":
                    self.last_id = value
                case "retry":
                    self.retry = int(value)

    async def told(self, many: int, within: float = 20) -> list[str]:
        """The types of the events so far, once there are so many."""

        async def look() -> list[str] | None:
            return [kind for kind, _ in self.events] if len(self.events) >= many else None

        return await until(look, within, lambda: f"{many} events, not {self.events}")


@asynccontextmanager
async def streamed(
    caller: httpx.AsyncClient, last_id: str | None = None, **query: Any
) -> AsyncIterator[tuple[Stream, asyncio.Task[None]]]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
    async with caller.stream("GET", "/v1/events", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        stream = Stream(response)
        reading = asyncio.create_task(stream.read())
        try:
            yield stream, reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})


async def an_export_of(caller: httpx.AsyncClient, **more: Any) -> str:
    response = await caller.post("/v1/exports/resource", json=other_tasks() | more)
    assert response.status_code == 202, response.text
    export: str = response.json()["id"]
    return export


async def page_of(caller: httpx.AsyncClient, **query: Any) -> Json:
    response = await caller.get("/v1/events", params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


def types_of(page: Json) -> list[str]:
    return [event["type"] for event in page["items"]]


async def test_pages_tell_everything_in_order(api: Api, caller: httpx.AsyncClient) -> None:
    exports = [await an_export_of(caller) for _ in range(3)]
    await brought_to(api, exports[0], Status.RUNNING, Status.FAILED)
    seen: list[Json] = []
    page = await page_of(caller, page_size=2)
    while page["has_more"]:
        seen += page["items"]
        page = await page_of(caller, page_size=2, after=page["cursor"])
    seen += page["items"]
    assert [(event["data"]["id"], event["type"]) for event in seen] == [
        *((export, "export.created") for export in exports),
        (exports[0], "export.started"),
        (exports[0], "export.failed"),
    ]
    assert [int(event["cursor"]) for event in seen] == sorted({int(event["cursor"]) for event in seen})
    assert (seen[-1]["data"]["status"], seen[-1]["data"]["version"]) == ("failed", 3)
    assert (await caller.get(seen[-1]["data"]["links"]["export"])).json()["version"] == 3
    nothing = await page_of(caller, after=page["cursor"])
    assert (nothing["items"], nothing["cursor"], nothing["has_more"]) == ([], page["cursor"], False)
    assert types_of(await page_of(caller, after=seen[3]["cursor"])) == ["export.failed"]


async def test_filters(api: Api, caller: httpx.AsyncClient) -> None:
    first, second = await an_export_of(caller), await an_export_of(caller)
    await brought_to(api, first, Status.RUNNING, Status.FAILED)
    of_one = await page_of(caller, export=first)
    assert {event["data"]["id"] for event in of_one["items"]} == {first}
    assert types_of(of_one) == ["export.created", "export.started", "export.failed"]
    some = await page_of(caller, type=["export.failed", "export.created"])
    assert types_of(some) == ["export.created", "export.created", "export.failed"]
    assert types_of(await page_of(caller, workspace="1001", export=second)) == ["export.created"]
    assert types_of(await page_of(caller, workspace="1002")) == []
    assert types_of(await page_of(caller, after="latest")) == []


@pytest.mark.parametrize(
    "query",
    [{"after": "x"}, {"after": "9" * 19}, {"type": "export.suceeded"}, {"export": "1"}, {"form": "1"}],
)
async def test_what_cannot_be_understood_is_refused(caller: httpx.AsyncClient, query: Json) -> None:
    refused = await caller.get("/v1/events", params=query)
    assert (refused.status_code, refused.json()["code"]) == (422, "validation-failed")
    assert refused.json()["errors"][0]["pointer"] == f"?{next(iter(query))}"


async def test_faults_are_told_before_a_stream_begins(caller: httpx.AsyncClient) -> None:
    for headers, query, status in (
        ({"Last-Event-ID": "x"}, {}, 422),
        ({}, {"export": "exp_" + "0" * 32}, 404),
        ({"Last-Event-ID": "4711"}, {}, 410),
    ):
        refused = await caller.get(
            "/v1/events", params=query, headers=headers | {"Accept": "text/event-stream"}
        )
        assert (refused.status_code, refused.headers["Content-Type"]) == (status, "application/problem+json")


async def test_a_cursor_is_good_as_long_as_nothing_after_it_is_forgotten(
    api: Api, caller: httpx.AsyncClient
) -> None:
    for _ in range(4):
        await an_export_of(caller)
    second, third = [event["cursor"] for event in (await page_of(caller))["items"]][1:3]
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE event_feed SET forgotten_position = :it"), {"it": int(third)})
    expired = await caller.get("/v1/events", params={"after": second})
    assert (expired.status_code, expired.json()["code"]) == (410, "cursor-expired")
    assert types_of(await page_of(caller, after=third)) == ["export.created"]
    # What is not forgotten yet may lie before what is: the oldest that can be followed is what comes after.
    assert types_of(await page_of(caller)) == ["export.created"]
    async with api.sessions.begin() as session:
        await session.execute(text("UPDATE event_feed SET forgotten_position = 0"))


async def test_a_cursor_ahead_of_all_events_is_refused(caller: httpx.AsyncClient) -> None:
    """As of a reader that has seen more than a database that was put back has."""
    ahead = int((await page_of(caller))["cursor"]) + 1
    assert (await caller.get("/v1/events", params={"after": ahead})).status_code == 410


async def events_everywhere(api: Api) -> tuple[httpx.AsyncClient, str]:
    """An export of a client's, and something that happens to each of two workspaces and to nobody's."""
    owner = await api.caller(WRITE, READ, grants=[GrantSpec(workspace="1001")])
    export = await an_export_of(owner)
    async with api.sessions.begin() as session:
        await another_workspace(session, api.tenant, "1002")
        for gid in ("1001", "1002"):
            await pause(session, LaneKey(gid), gid, Cause("test"))
        run = (await session.get_one(Export, export)).run
        await record(
            session,
            EventType.ARTIFACT_CONVERTED,
            actor="test",
            run=run,
            data={"artifact": "art_1", "format": "csv"},
        )
        await record(session, EventType.SECRETS_ROTATED, actor="test")
    return owner, export


async def test_each_sees_what_they_may(api: Api) -> None:
    owner, _ = await events_everywhere(api)
    here, there, everywhere, nowhere = [
        await api.caller(READ, grants=[GrantSpec(workspace=gid) for gid in gids])
        for gids in (["1001"], ["1002"], ["*"], [])
    ]
    kinds = ["export.created", "lane.paused", "artifact.converted", "secrets.rotated"]

    async def seen(caller: httpx.AsyncClient) -> list[tuple[str, str | None]]:
        page = await page_of(caller, type=kinds)
        async with streamed(caller, type=kinds, after=0) as (stream, _):
            assert await stream.told(len(page["items"])) == types_of(page)
        return [(event["type"], event["workspace"]) for event in page["items"]]

    created, paused = ("export.created", "1001"), [("lane.paused", "1001"), ("lane.paused", "1002")]
    assert await seen(owner) == [created, paused[0]]
    assert await seen(here) == paused[:1]
    assert await seen(there) == paused[1:]
    assert await seen(everywhere) == paused
    assert await seen(nowhere) == []
    converted, rotated = ("artifact.converted", "1001"), ("secrets.rotated", None)
    assert await seen(await api.admin()) == [created, *paused, converted, rotated]


async def test_what_becomes_of_a_file_is_told_to_those_who_have_it(api: Api) -> None:
    owner, export = await events_everywhere(api)
    stranger = await api.caller(READ)
    assert types_of(await page_of(owner, type="artifact.converted")) == []
    await brought_to(api, export, Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)
    assert types_of(await page_of(owner, type="artifact.converted")) == ["artifact.converted"]
    assert types_of(await page_of(stranger, type="artifact.converted")) == []


async def test_who_follows_is_told_no_more_than_who_reads_pages(api: Api) -> None:
    owner, export = await events_everywhere(api)
    await brought_to(api, export, Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)
    stranger, kinds = await api.caller(READ), ["artifact.converted", "lane.resumed"]
    async with (
        streamed(owner, after="latest", type=kinds) as (own, _),
        streamed(stranger, after="latest", type=kinds) as (other, _),
    ):
        async with api.sessions.begin() as session:
            run = (await session.get_one(Export, export)).run
            data = {"artifact": "art_1", "format": "csv"}
            await record(session, EventType.ARTIFACT_CONVERTED, actor="test", run=run, data=data)
            await resume(session, LaneKey("1001"), "1001", Cause("test"))
        assert await own.told(2) == kinds
        assert await other.told(1) == kinds[1:]


@pytest.mark.parametrize("gids", [["1001"], ["*"]])
async def test_a_page_is_full_though_much_of_others_lies_between(api: Api, gids: list[str]) -> None:
    owner, export = await events_everywhere(api)
    await brought_to(api, export, Status.RUNNING, Status.ARCHIVING, Status.SUCCEEDED)
    reader = await api.caller(READ, grants=[GrantSpec(workspace=gid) for gid in gids])
    async with api.sessions.begin() as session:
        run = (await session.get_one(Export, export)).run
        events = [
            new_event(EventType.ARTIFACT_EXTENDED, actor="test", run=run)
            if number % 20
            else new_event(EventType.LANE_BLOCKED, actor="test", lane=LaneKey("1001"))
            for number in range(200)
        ]
        await record_all(session, events)
    page = await page_of(reader, page_size=10, type=["artifact.extended", "lane.blocked"])
    assert types_of(page) == ["lane.blocked"] * 10
    assert len((await page_of(owner, page_size=200, type=["artifact.extended"]))["items"]) == 190


async def test_schedules_and_endpoints_are_followed_by_whose_they_are(api: Api) -> None:
    owner, stranger, admin = await api.caller(), await api.caller(), await api.admin()
    await owner.post("/v1/schedules", json=NIGHTLY)
    await owner.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.com/"})
    kinds = ["schedule.created", "webhook.created"]
    for caller, seen in ((owner, kinds), (stranger, []), (admin, kinds)):
        assert types_of(await page_of(caller, type=kinds)) == seen


async def test_the_head_of_a_stream_is_no_stream(api: Api, caller: httpx.AsyncClient) -> None:
    head = await caller.head("/v1/events", headers={"Accept": "text/event-stream"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Type"].startswith("text/event-stream")
    assert api.services.feed.followers == 0


async def test_others_exports_cannot_be_followed(api: Api, caller: httpx.AsyncClient) -> None:
    export = await an_export_of(caller)
    stranger = await api.caller(READ)
    assert (await stranger.get("/v1/events", params={"export": export})).status_code == 404


async def test_a_stream_tells_what_happens_when_it_happens(api: Api, caller: httpx.AsyncClient) -> None:
    export = await an_export_of(caller)
    async with streamed(caller) as (stream, _):
        assert await stream.told(1) == ["export.created"]
        assert stream.retry == 5000
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        await brought_to(api, export, Status.RUNNING, Status.FAILED)
        assert (await stream.told(3))[1:] == ["export.started", "export.failed"]
        page = await page_of(caller)
        assert [event for _, event in stream.events] == page["items"]
        assert stream.last_id == page["items"][-1]["cursor"]


async def test_a_stream_goes_on_where_it_broke_off(api: Api, caller: httpx.AsyncClient) -> None:
    export = await an_export_of(caller)
    async with streamed(caller) as (stream, _):
        await stream.told(1)
    await brought_to(api, export, Status.RUNNING, Status.FAILED)
    async with streamed(caller, last_id=stream.last_id, after=0) as (following, _):
        assert await following.told(2) == ["export.started", "export.failed"]
    async with streamed(caller, after="latest") as (later, _):
        await an_export_of(caller)
        assert await later.told(1) == ["export.created"]


class Line:
    """A stream as bytes on a connection, which is read from when a test wants it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def events(self, many: int, within: float = 120) -> list[str]:
        """The ids of the next ones; a comment may have one too."""
        found: list[str] = []
        is_event = False
        async with asyncio.timeout(within):
            while len(found) < many:
                name, _, value = (await self.reader.readline()).decode().strip().partition(": ")
                is_event = name == "event" or (is_event and bool(name))
                if is_event and name == "id":
                    found.append(value)
        return found


@asynccontextmanager
async def on_the_line(
    api: Api, caller: httpx.AsyncClient, query: str = "after=latest"
) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection(*urlparse(api.url).netloc.split(":"), limit=2**16)
    request = (
        "GET /v1/events?after=latest&type=lane.paused HTTP/1.1",
        "Host: x",
        "Accept: text/event-stream",
        f"Authorization: {caller.headers['Authorization']}",
    )
    writer.write("\r\n".join((*request, "", "")).encode())
    try:
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"retry: 5000\n")
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def many_events(api: Api, many: int) -> None:
    """About the workspace 1001, in one transaction."""
    async with api.sessions.begin() as session:
        await enter_lane(session, LaneKey("1001"), "1001")
        events = [new_event(EventType.LANE_PAUSED, actor="test", lane=LaneKey("1001")) for _ in range(many)]
        await record_all(session, events)


async def test_hundreds_follow_at_the_cost_of_a_few_connections(api: Api, caller: httpx.AsyncClient) -> None:
    await an_export_of(caller)
    async with AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(on_the_line(api, caller)) for _ in range(500)]
        assert api.services.feed.followers == 500
        await many_events(api, 3)
        told = {tuple(await line.events(3)) for line in crowd}
        assert len(told) == 1
        async with api.sessions() as session:
            mine = await session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            )
    assert mine is not None
    assert mine <= 2 * (api.settings.database_pool_size + 1) + 1


async def test_who_is_slow_holds_up_nobody_and_misses_nothing(api: Api, caller: httpx.AsyncClient) -> None:
    await an_export_of(caller)
    many = 3 * KEPT
    async with on_the_line(api, caller) as slow, on_the_line(api, caller) as fast:
        for _ in range(3):
            await many_events(api, many // 3)
            seen = await fast.events(many // 3)
        assert api.services.feed.in_memory <= KEPT
        late = await slow.events(many)
    assert late[-1] == seen[-1]
    assert [int(each) for each in late] == sorted({int(each) for each in late})


async def test_a_stream_ends_when_the_process_does(api: Api, caller: httpx.AsyncClient) -> None:
    async with streamed(caller) as (_, reading):
        api.services.close()
        await asyncio.wait_for(reading, 10)


async def test_a_lost_connection_loses_no_event(api: Api, caller: httpx.AsyncClient) -> None:
    async with streamed(caller) as (stream, _):
        cut = text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )
        async with api.sessions() as session:
            assert await session.scalar(cut) == 1
        # While nobody listens.
        await an_export_of(caller)
        assert await stream.told(1) == ["export.created"]


class HastyClock(SystemClock):
    """A hundred seconds are one."""

    def monotonic(self) -> float:
        return super().monotonic() * 100

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


@pytest.fixture
async def hasty(api: Api) -> AsyncIterator[Api]:
    """The same API in a process with another clock."""
    async with served(api.settings, HastyClock()) as (url, services):
        yield replace(api, url=url, services=services)


async def test_who_hears_nothing_is_sent_a_comment_and_moves_on(hasty: Api) -> None:
    """Its last id does not grow old while things happen that are none of its business."""
    caller = await hasty.caller(READ, grants=[])
    async with streamed(caller) as (stream, _):
        await many_events(hasty, 5)
        latest = (await page_of(await hasty.admin(), after="latest"))["cursor"]

        async def moved() -> bool | None:
            return (stream.last_id == latest and stream.comments > 2) or None

        await until(moved, 20, lambda: f"comments, and the last id {latest}, not {stream}")
        assert stream.events == []


@pytest.mark.parametrize("act", ["revoke", "key"])
async def test_a_stream_ends_with_its_key(hasty: Api, act: str) -> None:
    admin, caller = await hasty.admin(), await hasty.caller(READ)
    (me,) = [each for each in (await admin.get("/v1/clients")).json()["items"] if each["name"] == "caller 1"]
    async with streamed(caller) as (_, reading):
        assert (await admin.post(f"/v1/clients/{me['id']}/{act}")).is_success
        await asyncio.wait_for(reading, 20)


async def test_a_stream_follows_the_grants(hasty: Api) -> None:
    admin, caller = await hasty.admin(), await hasty.caller(READ, grants=[])
    (me,) = [each for each in (await admin.get("/v1/clients")).json()["items"] if each["name"] == "caller 1"]
    async with streamed(caller) as (stream, _):
        await admin.patch(f"/v1/clients/{me['id']}", json={"grants": [{"workspace": "1001"}]})

        async def told() -> bool | None:
            await many_events(hasty, 1)
            return bool(stream.events) or None

        await until(told, 20, lambda: "an event of the new grant")


async def test_a_stream_outlasts_a_database_that_is_away(hasty: Api) -> None:
    caller = await hasty.caller(READ)
    async with streamed(caller, after="latest") as (stream, _):
        async with hasty.sessions() as session:
            await session.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        await many_events(hasty, 1)
        assert await stream.told(1) == ["lane.paused"]


async def test_a_stream_ends_when_the_database_was_put_back(hasty: Api) -> None:
    """Whoever follows has seen more than there is, and would wait for what comes to be passed over."""
    admin, caller = await hasty.admin(), await hasty.caller(READ)
    await many_events(hasty, 5)
    await page_of(admin)
    async with streamed(caller, after="latest") as (stream, reading):
        await many_events(hasty, 1)
        await stream.told(1)
        async with hasty.sessions.begin() as session:
            await session.execute(text("DELETE FROM events WHERE position > 2"))
            await session.execute(text("UPDATE event_feed SET last_position = 2"))
        await asyncio.wait_for(reading, 60)
    refused = await caller.get("/v1/events", params={"after": stream.last_id})
    assert (refused.status_code, refused.json()["code"]) == (410, "cursor-expired")
    async with streamed(caller, after="latest") as (again, _):
        await many_events(hasty, 1)
        assert await again.told(1) == ["lane.paused"]
