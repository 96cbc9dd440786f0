"""What the client makes of answers, of a server whose answers are written here."""

import asyncio
import json

import msgspec
import pytest

from app.api.problems import STATUSES
from app.problems import EXPLANATIONS, Code
from asana_exports_client import AsyncClient, ProblemError, UnexpectedAnswer, Unreachable, models, problems
from tests.client.conftest import NewClient
from tests.servers import Request, answer, hang_up, serving

LANE = {
    "workspace": "1001", "lane": "1001", "state": "frozen", "holder": None, "slot": None, "queued": 0,
    "oldest_queued_at": None, "archiving": 0, "wait_reason": "solar_flare", "waiting_since": None,
    "next_attempt_at": None, "refusals": 0, "of_a_newer_service": {"any": "thing"},
}  # fmt: skip
A_CLIENT = models.ClientCreate(name="bi", scopes=[models.Scope.ADMIN])


def document(code: str, status: int) -> bytes:
    return json.dumps(
        {
            "type": f"/problems/{code}", "title": "A title.", "detail": "A detail.", "code": code,
            "retryable": True, "status": status, "instance": "/v1", "request_id": "req_1",
            "errors": [{"pointer": "/name", "detail": "is missing"}],
        }
    ).encode()  # fmt: skip


class Script:
    """Answers one after the other, the last one again and again."""

    def __init__(self, *answers: bytes | None) -> None:
        self._answers = [*answers]

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        told = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if told is None:
            await hang_up(request, writer)
        else:
            writer.write(told)


LANE_SHOWN = answer(200, json.dumps(LANE).encode())


async def test_a_newer_service_is_understood(new_client: NewClient) -> None:
    async with serving(Script(LANE_SHOWN)) as server:
        lane = await new_client(server.url).lanes.get("1001")
    assert (lane.state, lane.wait_reason) == ("frozen", "solar_flare")
    assert isinstance(lane.state, models.LaneState)
    assert lane.state not in set(models.LaneState)


async def test_each_problem_has_a_class_of_its_own(new_client: NewClient) -> None:
    assert set(problems.BY_CODE) == {*map(str, Code)}
    assert len(set(problems.BY_CODE.values())) == len(Code)
    for code in Code:
        kind = problems.BY_CODE[code]
        assert (kind.__doc__ or "").startswith(EXPLANATIONS[code].title)
        status = STATUSES.get(code, 409)
        async with serving(Script(answer(status, document(code, status)))) as server:
            with pytest.raises(kind) as raised:
                await new_client(server.url, patience=0).lanes.get("1001")
        error = raised.value
        assert isinstance(error, ProblemError)
        assert (error.code, error.status, error.request_id, error.retryable) == (code, status, "req_1", True)
        assert (error.errors[0].pointer, error.errors[0].detail) == ("/name", "is missing")
        assert "/name: is missing" in str(error)


async def test_a_problem_of_a_newer_service_is_a_problem(new_client: NewClient) -> None:
    async with serving(Script(answer(418, document("teapot", 418)))) as server:
        with pytest.raises(ProblemError, match=r"teapot: A title\. A detail\.") as raised:
            await new_client(server.url).lanes.get("1001")
    assert (type(raised.value), raised.value.code) == (ProblemError, "teapot")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_what_passes_is_asked_again(new_client: NewClient, status: int) -> None:
    passing = answer(status, b"<html>a proxy</html>", Retry_After="0")
    async with serving(Script(None, passing, LANE_SHOWN)) as server:
        assert (await new_client(server.url).lanes.pause("1001", "a note")).workspace == "1001"
        assert len(server.requests) == 3
        assert {request.body for request in server.requests} == {b'{"note":"a note"}'}


async def test_it_is_not_asked_again_for_ever(new_client: NewClient) -> None:
    """A service that wants more patience than there is, is told of at once."""
    later = answer(503, document("database-unavailable", 503), Retry_After="61")
    async with serving(Script(later)) as server:
        with pytest.raises(problems.DatabaseUnavailable) as raised:
            await new_client(server.url).lanes.get("1001")
        assert len(server.requests) == 1
    assert raised.value.retry_after == 61
    with pytest.raises(Unreachable, match="ConnectError at"):
        await new_client(server.url, patience=0).lanes.get("1001")


async def test_a_service_that_was_never_reached_is_not_followed(new_client: NewClient) -> None:
    """One that was is waited for much longer."""
    async with serving(Script(None)) as server:
        pass
    client = new_client(server.url, patience=0)
    with pytest.raises(Unreachable):
        await client.wait("exp_1")
    with pytest.raises(Unreachable):
        await anext(client.events.follow())


@pytest.mark.parametrize("status", [400, 404, 409, 500])
async def test_what_does_not_pass_is_not_asked_again(new_client: NewClient, status: int) -> None:
    async with serving(Script(answer(status, b"no document", Retry_After="0"))) as server:
        with pytest.raises(UnexpectedAnswer, match=f"{status}: no document"):
            await new_client(server.url).lanes.get("1001")
        assert len(server.requests) == 1


async def test_a_request_with_a_key_is_sent_again_while_its_twin_is_worked_on(new_client: NewClient) -> None:
    busy = answer(409, document("idempotency-in-progress", 409), Retry_After="0")
    gone = answer(404, document("not-found", 404))
    async with serving(Script(busy, gone)) as server:
        with pytest.raises(problems.NotFound):
            await new_client(server.url).export_resource("1001")
        assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
        assert len(server.requests) == 2


@pytest.mark.parametrize("lost", [None, answer(503, document("shutting-down", 503), Retry_After="0")])
async def test_what_must_not_be_done_twice_is_not_sent_twice(
    new_client: NewClient, lost: bytes | None
) -> None:
    async with serving(Script(lost)) as server:
        with pytest.raises(Unreachable if lost is None else problems.ShuttingDown):
            await new_client(server.url).clients.create(A_CLIENT)
        assert len(server.requests) == 1
    refused = answer(429, document("too-many-requests", 429), Retry_After="0")
    conflict = answer(409, document("conflict", 409))
    async with serving(Script(refused, conflict)) as server:
        with pytest.raises(problems.Conflict):
            await new_client(server.url).clients.create(A_CLIENT)
        assert len(server.requests) == 2


async def test_an_answer_that_is_none_of_the_service_is_told(new_client: NewClient) -> None:
    async with serving(Script(answer(200, b"<html>please log in</html>"))) as server:
        with pytest.raises(UnexpectedAnswer, match="not what this client expects"):
            await new_client(server.url).lanes.get("1001")


async def test_requests_say_who_asks_and_never_leave_the_place_they_name(new_client: NewClient) -> None:
    async with serving(Script(LANE_SHOWN)) as server:
        await new_client(server.url, "the key").lanes.get("../../secret?x=1")
    (request,) = server.requests
    assert request.path == "/v1/workspaces/..%2F..%2Fsecret%3Fx%3D1/lane"
    assert request.headers["authorization"] == "Bearer the key"
    assert request.headers["user-agent"].startswith("asana-exports-client/")


def test_a_client_does_not_show_its_key() -> None:
    assert "the key" not in repr(AsyncClient("http://127.0.0.1", "the key"))


def test_unset_and_none_are_told_apart() -> None:
    assert msgspec.json.encode(models.ClientPatch(max_queued=None)) == b'{"max_queued":null}'
