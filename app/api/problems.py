"""Problems over HTTP (RFC 9457): the one place that knows their statuses."""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.asana_errors import NO_ROUTE, STATUSES_HERE, AsanaAnswer, AsanaErrorsOut, envelope, speaks_asana
from app.api.request_id import request_id
from app.exports.templates import TAGS
from app.metrics import CRASHES
from app.problems import EXPLANATIONS, Code, Fault, Problem, ProblemError

MEDIA_TYPE = "application/problem+json"
DATABASE_RETRY_AFTER = 5
SHUTDOWN_RETRY_AFTER = 1
MOST_FAULTS = 100
REQUEST_OF_EXAMPLES = "req_01997d3c5b7d7e3f8a1b2c3d4e5f6071"

STATUSES = {
    Code.VALIDATION_FAILED: 422,
    Code.MALFORMED_JSON: 400,
    Code.IDEMPOTENCY_KEY_INVALID: 400,
    Code.IDEMPOTENCY_KEY_REUSED: 422,
    Code.IDEMPOTENCY_IN_PROGRESS: 409,
    Code.BAD_PAGE_TOKEN: 400,
    Code.UNAUTHENTICATED: 401,
    Code.SCOPE_MISSING: 403,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.CONFLICT: 409,
    Code.BODY_TOO_LARGE: 413,
    Code.REQUEST_TIMEOUT: 408,
    Code.UNSUPPORTED_MEDIA_TYPE: 415,
    Code.NOT_READY: 409,
    Code.NOT_CANCELABLE: 409,
    Code.NOT_RETRYABLE: 409,
    Code.QUOTA_EXCEEDED: 429,
    Code.TOO_MANY_REQUESTS: 429,
    Code.QUEUE_FULL: 503,
    Code.LANE_DRAINING: 409,
    Code.ARTIFACT_EXPIRED: 410,
    Code.CURSOR_EXPIRED: 410,
    Code.ARTIFACT_MISSING: 500,
    Code.ARTIFACT_SHARED: 409,
    Code.LEGAL_HOLD: 409,
    Code.UPSTREAM_ARTIFACT_EXPIRED: 409,
    Code.STORE_UNAVAILABLE: 503,
    Code.PRECONDITION_FAILED: 412,
    Code.RANGE_NOT_SATISFIABLE: 416,
    Code.DOWNLOAD_URL_REFUSED: 403,
    Code.ENDPOINT_DISABLED: 409,
    Code.SECRET_ROTATING: 409,
    Code.CREDENTIAL_REFUSED: 422,
    Code.WORKSPACE_REFUSED: 422,
    Code.UPSTREAM_UNAVAILABLE: 503,
    Code.DATABASE_UNAVAILABLE: 503,
    Code.SHUTTING_DOWN: 503,
    Code.INTERNAL_ERROR: 500,
}

log = structlog.get_logger()


class FaultOut(BaseModel):
    """One thing wrong with the request, and where."""

    pointer: str = Field(description="A JSON Pointer (RFC 6901) into the body, or `?name` of a parameter.")
    detail: str


class ErrorOut(BaseModel):
    """What went wrong, whose fault it is and what to do."""

    type: str = Field(description="A page of this service that explains the code.")
    title: str
    detail: str
    # Not an enum on the way out: a row may hold a code of the next version.
    code: str = Field(
        description="Decide by this; it never changes.",
        json_schema_extra={"examples": [str(Code.UPSTREAM_FAILED)], "x-known-values": [*map(str, Code)]},
    )
    retryable: bool = Field(description="Whether the same request may succeed another time.")
    errors: list[FaultOut] = []


class ProblemOut(ErrorOut):
    """An error as the answer to a request (RFC 9457)."""

    status: int
    instance: str = Field(description="The path that was asked for.")
    request_id: str


# What any call with a key, and any such call with a body, may be answered with.
ON_CALL = (
    Code.UNAUTHENTICATED,
    Code.SCOPE_MISSING,
    Code.NOT_FOUND,
    Code.VALIDATION_FAILED,
    Code.TOO_MANY_REQUESTS,
)
ON_BODY = (
    *ON_CALL,
    Code.MALFORMED_JSON,
    Code.BODY_TOO_LARGE,
    Code.REQUEST_TIMEOUT,
    Code.UNSUPPORTED_MEDIA_TYPE,
)
# What one that takes an Idempotency-Key may be answered with as well.
ON_KEY = (Code.IDEMPOTENCY_KEY_INVALID, Code.IDEMPOTENCY_KEY_REUSED, Code.IDEMPOTENCY_IN_PROGRESS)


def problems(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """The declared responses of a route for these problems, with an example of each."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, Code.DATABASE_UNAVAILABLE, Code.SHUTTING_DOWN):
        declared = by_status.setdefault(
            STATUSES[code],
            {
                "model": ProblemOut,
                "description": HTTPStatus(STATUSES[code]).phrase,
                "content": {MEDIA_TYPE: {"examples": {}}},
            },
        )
        declared["content"][MEDIA_TYPE]["examples"][str(code)] = {
            "summary": EXPLANATIONS[code].title,
            "value": _example(code),
        }
    return by_status


def refusals(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """The same of a route that answers as Asana does."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, Code.DATABASE_UNAVAILABLE, Code.SHUTTING_DOWN):
        status = status_at_asana(code)
        declared = by_status.setdefault(
            status,
            {
                "model": AsanaErrorsOut,
                "description": HTTPStatus(status).phrase,
                "content": {"application/json": {"examples": {}}},
            },
        )
        declared["content"]["application/json"]["examples"][str(code)] = {
            "summary": EXPLANATIONS[code].title,
            "value": envelope(_example_of(code), status, REQUEST_OF_EXAMPLES),
        }
    return by_status


def status_at_asana(code: Code) -> int:
    """What a problem is answered with where Asana is spoken."""
    return STATUSES_HERE.get(code, STATUSES[code])


def handle_problems(app: FastAPI) -> None:
    """Turn every error into a problem document."""
    app.exception_handler(ProblemError)(_problem_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)
    app.exception_handler(DBAPIError)(_database_error)
    app.exception_handler(PoolTimeout)(_database_error)


class UnexpectedErrorMiddleware:
    """Answers for what has no answer of its own, within the request's context: 500 for what nobody foresaw,
    which it logs there, and 503 for what took longer than a process that is told to stop may wait."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not started and scope["type"] == "http":
                problem = Problem(Code.SHUTTING_DOWN, "It took longer than this process had left.")
                answer = problem_response(problem, path=scope["path"], retry_after=SHUTDOWN_RETRY_AFTER)
                await answer(scope, receive, send)
            raise
        except Exception:
            if started or scope["type"] != "http":
                raise
            CRASHES.labels("request").inc()
            log.exception("request.failed", path=scope["path"])
            problem = Problem(Code.INTERNAL_ERROR, "The service made a mistake; its log has the details.")
            await problem_response(problem, path=scope["path"])(scope, receive, send)


def problem_response(
    problem: Problem, *, path: str, retry_after: int | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The document of a problem that occurred at a path, in Asana's form where Asana is spoken."""
    named = dict(headers or {})
    if retry_after is not None:
        named["Retry-After"] = str(retry_after)
    if speaks_asana(path):
        status = status_at_asana(problem.code)
        return AsanaAnswer(envelope(problem, status, request_id()), status, named)
    status = STATUSES[problem.code]
    body = {**problem.as_error(), "status": status, "instance": quote(path), "request_id": request_id()}
    return JSONResponse(body, status, headers=named, media_type=MEDIA_TYPE)


async def _problem_error(request: Request, error: ProblemError) -> Response:
    headers = {}
    if error.problem.code in {Code.UNAUTHENTICATED, Code.SCOPE_MISSING}:
        sent = "Authorization" in request.headers
        headers["WWW-Authenticate"] = _challenge(error.problem, key_was_sent=sent)
    if error.size is not None:
        headers["Content-Range"] = f"bytes */{error.size}"
    return problem_response(
        error.problem, path=request.url.path, retry_after=error.retry_after, headers=headers
    )


def _challenge(problem: Problem, *, key_was_sent: bool) -> str:
    """RFC 6750, section 3: a request without any key is told of no error."""
    realm = 'Bearer realm="asana-exports"'
    if problem.code is Code.SCOPE_MISSING:
        return f'{realm}, error="insufficient_scope"'
    return f'{realm}, error="invalid_token"' if key_was_sent else realm


async def _validation_error(request: Request, error: RequestValidationError) -> Response:
    found = error.errors()
    if _is_of_another_type(request, found):
        given = request.headers.get("Content-Type") or "none"
        detail = f"The body's Content-Type is {given!r}; it must be application/json."
        return problem_response(Problem(Code.UNSUPPORTED_MEDIA_TYPE, detail), path=request.url.path)
    if any(each["type"] == "json_invalid" for each in found):
        return problem_response(
            Problem(Code.MALFORMED_JSON, "The body cannot be read as JSON."), path=request.url.path
        )
    faults = tuple(sorted(_faults(found), key=lambda fault: (fault.pointer, fault.detail)))
    detail = f"The request has {len(faults)} fault{'s' if len(faults) > 1 else ''}."
    if len(faults) > MOST_FAULTS:
        detail += f" The first {MOST_FAULTS} are told."
        faults = faults[:MOST_FAULTS]
    return problem_response(Problem(Code.VALIDATION_FAILED, detail, faults), path=request.url.path)


def _is_of_another_type(request: Request, found: Iterable[dict[str, Any]]) -> bool:
    """Whether a body was sent that FastAPI did not read as JSON, for its Content-Type does not say so."""
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    is_json = media_type == "application/json" or media_type.endswith("+json")
    return not is_json and any(each["loc"] == ("body",) and each["type"] != "missing" for each in found)


def _faults(found: Iterable[dict[str, Any]]) -> set[Fault]:
    return {Fault(_pointer(each["loc"]), _words(each)) for each in found}


def _words(fault: dict[str, Any]) -> str:
    is_shape = fault["type"] in {"model_attributes_type", "model_type", "dict_type"}
    return "must be a JSON object" if is_shape else str(fault["msg"])


def _pointer(place: tuple[int | str, ...]) -> str:
    where, *path = place
    if where != "body":
        return f"?{path[0]}" if path else f"?{where}"
    # Pydantic marks a fault of a mapping's key by one more step, and which of several forms it took as well.
    steps = [str(step) for step in path if step not in {"[key]", *TAGS}]
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    codes = {
        404: Code.NOT_FOUND,
        405: Code.METHOD_NOT_ALLOWED,
        400: Code.MALFORMED_JSON,
        408: Code.REQUEST_TIMEOUT,
        413: Code.BODY_TOO_LARGE,
    }
    if speaks_asana(request.url.path) and error.status_code in {404, 405}:
        return problem_response(Problem(Code.NOT_FOUND, NO_ROUTE), path=request.url.path)
    code = codes.get(error.status_code, Code.INTERNAL_ERROR)
    details = {
        Code.NOT_FOUND: "There is nothing at this address.",
        Code.METHOD_NOT_ALLOWED: f"{request.method} is not possible here.",
    }
    detail = details.get(code, str(error.detail))
    headers = dict(error.headers or {})
    if code is Code.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_of(request))
    return problem_response(Problem(code, detail), path=request.url.path, headers=headers)


def _methods_of(request: Request) -> list[str]:
    """What the path knows in all its routes; the router itself tells of the first alone."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    path = request.url.path
    fitting = [known for template, known in paths.items() if compile_path(template)[0].match(path)]
    known = paths.get(path) or next(iter(fitting), {"get": None})
    return [*(["HEAD"] if "get" in known else []), *map(str.upper, known)]


async def _database_error(request: Request, error: Exception) -> Response:
    if isinstance(error, IntegrityError | ProgrammingError | DataError):
        raise error  # not the database's fault
    log.error("database.unavailable", error=f"{type(error).__name__}: {error}".splitlines()[0])
    return problem_response(
        Problem(Code.DATABASE_UNAVAILABLE, "The database did not answer."),
        path=request.url.path,
        retry_after=DATABASE_RETRY_AFTER,
    )


def _example_of(code: Code) -> Problem:
    faults = (
        (Fault("/export_request_parameters/0/filters", "Asana does not support filters for teams"),)
        if code is Code.VALIDATION_FAILED
        else ()
    )
    return Problem(code, EXPLANATIONS[code].title, faults)


def _example(code: Code) -> dict[str, Any]:
    return {
        **_example_of(code).as_error(),
        "status": STATUSES[code],
        "instance": "/v1/exports/resource",
        "request_id": REQUEST_OF_EXAMPLES,
    }
