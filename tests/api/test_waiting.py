"""Waiting for an export without asking again and again."""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

import httpx
import pytest
from sqlalchemy import text

from app.clock import SystemClock
from app.exports.models import Status
from tests.api.conftest import TASKS, Api, other_tasks
from tests.api.test_exports import brought_to
from tests.processes import until


async def submitted(caller: httpx.AsyncClient, **more: object) -> httpx.Response:
    response = await caller.post("/v1/exports/resource", json=other_tasks() | more)
    assert response.status_code == 202
    return response


async def waited(caller: httpx.AsyncClient, location: str, seconds: float, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller.get(location, headers=named | {"Prefer": f"wait={seconds}"})


async def test_without_a_version_one_waits_for_the_end(api: Api, caller: httpx.AsyncClient) -> None:
    export = await submitted(caller)
    waiting = asyncio.create_task(waited(caller, export.headers["Location"], 20))
    for path in ((Status.RUNNING,), (Status.FAILED,)):
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await brought_to(api, export.json()["id"], *path)
    response = await asyncio.wait_for(waiting, 5)
    assert response.json()["status"] == "failed"
    assert response.headers["Preference-Applied"] == "wait=20"


async def test_with_a_version_one_waits_for_the_first_change(api: Api, caller: httpx.AsyncClient) -> None:
    export = await submitted(caller)
    seen = {"If_None_Match": export.headers["ETag"]}
    waiting = asyncio.create_task(waited(caller, export.headers["Location"], 20, **seen))
    await asyncio.sleep(0.1)
    await brought_to(api, export.json()["id"], Status.RUNNING)
    response = await asyncio.wait_for(waiting, 5)
    assert (response.status_code, response.json()["status"]) == (200, "running")
    late = await waited(caller, export.headers["Location"], 20, **seen)
    assert late.json()["status"] == "running"


async def test_another_place_in_the_queue_is_news_too(caller: httpx.AsyncClient) -> None:
    first, second = await submitted(caller), await submitted(caller)
    waiting = asyncio.create_task(
        waited(caller, second.headers["Location"], 20, If_None_Match=second.headers["ETag"])
    )
    await asyncio.sleep(0.1)
    await caller.post(first.headers["Location"] + "/cancel")
    response = await asyncio.wait_for(waiting, 10)
    assert response.json()["queue"]["position"] == 1


async def test_when_the_time_is_over_one_is_told_the_state(caller: httpx.AsyncClient) -> None:
    export = await submitted(caller)
    began = time.monotonic()
    state = await waited(caller, export.headers["Location"], 1)
    unchanged = await waited(caller, export.headers["Location"], 1, If_None_Match=export.headers["ETag"])
    assert 2 <= time.monotonic() - began < 4
    assert (state.status_code, state.json()["status"]) == (200, "queued")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["Preference-Applied"] == "wait=1"


@pytest.mark.parametrize("prefer", ["wait=soon", "respond-async", "wait=-1", "await=9", ""])
async def test_a_preference_that_is_not_understood_is_none(caller: httpx.AsyncClient, prefer: str) -> None:
    export = await submitted(caller)
    response = await caller.get(export.headers["Location"], headers={"Prefer": prefer})
    assert "Preference-Applied" not in response.headers


async def test_no_one_waits_for_ever(caller: httpx.AsyncClient, api: Api) -> None:
    export = await submitted(caller)
    await brought_to(api, export.json()["id"], Status.CANCELED)
    ended = await waited(caller, export.headers["Location"], 900)
    assert ended.headers["Preference-Applied"] == "wait=50"


class StoppedClock(SystemClock):
    """By which no time goes by: a busy machine may take longer to let all callers in than one may wait."""

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize("clock", [StoppedClock()], ids=["stopped"])
async def test_a_thousand_wait_at_the_cost_of_one_connection(api: Api, caller: httpx.AsyncClient) -> None:
    """And all of them hear of the change."""
    exports = [await submitted(caller) for _ in range(20)]
    async with AsyncExitStack() as stack:
        # The pool of one httpx client gets slow where hundreds of its calls wait.
        crowd = [
            await stack.enter_async_context(
                httpx.AsyncClient(base_url=api.url, headers=caller.headers, trust_env=False, timeout=600)
            )
            for _ in exports
        ]
        waiting = list[asyncio.Task[httpx.Response]]()
        for one, export in zip(crowd, exports, strict=True):
            look = partial(waited, one, export.headers["Location"], 50)
            waiting += [asyncio.create_task(look()) for _ in range(50)]
            await until_asleep(api, len(waiting))
        async with api.sessions() as session:
            mine = await session.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            )
        assert mine is not None
        assert mine <= 2 * (api.settings.database_pool_size + 1) + 1
        for export in exports:
            await brought_to(api, export.json()["id"], Status.RUNNING, Status.FAILED)
        answers = await asyncio.gather(*waiting)
    assert {answer.json()["status"] for answer in answers} == {"failed"}


async def until_asleep(api: Api, many: int) -> None:
    """Until so many have subscribed; they then wait, or find that there is nothing to wait for."""

    async def look() -> bool | None:
        return api.services.changes.waiting >= many or None

    await until(look, 40, lambda: f"{many} waiting, not {api.services.changes.waiting}")


async def test_a_lost_connection_loses_no_news(api: Api, caller: httpx.AsyncClient) -> None:
    export = await submitted(caller)
    waiting = asyncio.create_task(waited(caller, export.headers["Location"], 30))
    await asyncio.sleep(0.2)
    cut = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    )
    async with api.sessions() as session:
        assert await session.scalar(cut) == 1
    # While nobody listens.
    await brought_to(api, export.json()["id"], Status.RUNNING, Status.FAILED)
    assert (await asyncio.wait_for(waiting, 10)).json()["status"] == "failed"


async def test_who_waits_is_answered_when_the_process_ends(api: Api, caller: httpx.AsyncClient) -> None:
    export = await submitted(caller)
    waiting = asyncio.create_task(waited(caller, export.headers["Location"], 30))
    await asyncio.sleep(0.2)
    api.services.changes.close()
    assert (await asyncio.wait_for(waiting, 5)).json()["status"] == "queued"


async def test_others_exports_cannot_be_waited_for(api: Api, caller: httpx.AsyncClient) -> None:
    export = await caller.post("/v1/exports/resource", json=TASKS)
    stranger = await api.caller()
    assert (await waited(stranger, export.headers["Location"], 30)).status_code == 404
