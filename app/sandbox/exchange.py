"""How a request passes through: what it is about, the fault that hits it, the answer, the journal."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response

from app.sandbox.connection import CutShort, Dropped
from app.sandbox.exportrequests import read_body
from app.sandbox.faults import Call, Fault, FaultKind
from app.sandbox.journal import Exchange
from app.sandbox.refusals import Refused
from app.sandbox.state import Sandbox
from app.sandbox.world import find_parent

Handle = Callable[[Request], Awaitable[Response]]


class AsanaRoute(APIRoute):
    """A route of the API; its name is the call that faults and the journal know it by."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, call = super().get_route_handler(), Call(self.name)

        async def pass_through(request: Request) -> Response:
            sandbox = sandbox_of(request)
            # The one of now: a delayed answer must not turn up in what is noted after a reset.
            journal = sandbox.journal
            exchange = Exchange(
                call,
                request.method,
                request.url.path,
                token=sandbox.tokens.name_of(request.headers.get("authorization")),
            )
            request.state.exchange = exchange
            await _find_subject(request, exchange, sandbox)
            fault = request.state.fault = sandbox.faults.take(call, exchange.workspace)
            exchange.fault = fault.kind if fault else None
            response = await (_answer_with(fault, request, handle) if fault else _answer(request, handle))
            status = None if isinstance(response, Dropped) else response.status_code
            journal.record(exchange, status, sandbox.now())
            return response

        return pass_through


def sandbox_of(request: Request) -> Sandbox:
    """The state behind the application."""
    sandbox = request.app.state.sandbox
    assert isinstance(sandbox, Sandbox)  # noqa: S101
    return sandbox


def exchange_of(request: Request) -> Exchange:
    """What is known of the request so far."""
    exchange = request.state.exchange
    assert isinstance(exchange, Exchange)  # noqa: S101
    return exchange


def fault_of(request: Request) -> Fault | None:
    """The fault that hits the request."""
    fault: Fault | None = request.state.fault
    return fault


def refusal(refused: Refused) -> Response:
    """An error as an answer."""
    return as_json(refused.body(), refused.status, refused.headers())


def as_json(
    body: object, status: int = 200, headers: dict[str, str] | None = None, *, pretty: bool = False
) -> Response:
    """An answer with the headers that Asana gives."""
    return Response(
        orjson.dumps(body, option=orjson.OPT_INDENT_2 if pretty else 0),
        status,
        {"Cache-Control": "no-store", "X-Asana-Api-Version": "1.1", **(headers or {})},
        "application/json; charset=UTF-8",
    )


async def _find_subject(request: Request, exchange: Exchange, sandbox: Sandbox) -> None:
    """Learn what the request is about, without judging it: faults may be for one workspace only."""
    workspaces = sandbox.settings.workspaces
    gid = request.path_params.get("gid")
    if exchange.call in (Call.JOB, Call.FILE):
        exchange.job, job = gid, sandbox.jobs.get(gid or "")
        exchange.workspace, exchange.parent = (job.workspace, job.parent) if job else (None, None)
    elif exchange.call is Call.PARENT:
        parent = find_parent(workspaces, gid or "")
        exchange.parent, exchange.workspace = gid, parent.spec.gid if parent else None
    elif exchange.call is Call.WORKSPACE:
        exchange.workspace = gid if gid in workspaces else None
    elif exchange.call in (Call.GRAPH, Call.RESOURCE):
        try:
            data, _ = read_body(await request.body())
        except Refused:
            return
        exchange.parent = str(data["parent"]) if "parent" in data else None
        parent = find_parent(workspaces, exchange.parent) if exchange.parent else None
        workspace = parent.spec.gid if parent else str(data.get("workspace"))
        exchange.workspace = workspace if workspace in workspaces else None


async def _answer(request: Request, handle: Handle) -> Response:
    try:
        return await handle(request)
    except Refused as refused:
        return refusal(refused)


async def _answer_with(fault: Fault, request: Request, handle: Handle) -> Response:
    await asyncio.sleep(fault.delay)
    match fault.kind:
        case FaultKind.STATUS:
            return refusal(Refused(fault.status, fault.message, fault.retry_after))
        case FaultKind.DROP_BEFORE:
            return Dropped()
        case FaultKind.DROP_AFTER:
            await _answer(request, handle)
            return Dropped()
        case FaultKind.WRONG_CONTENT:
            return HTMLResponse("<!doctype html><title>Asana</title><p>Be right back.</p>")
        case FaultKind.TRUNCATE:
            return CutShort(await _answer(request, handle), fault.fraction)
        case _:
            return await _answer(request, handle)
