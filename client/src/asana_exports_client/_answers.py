"""What an answer means: the thing asked for, a problem, or a reason to ask again."""

from random import uniform
from typing import TypeVar

import httpx
import msgspec
from tenacity import RetryCallState

from asana_exports_client.errors import ProblemError, UnexpectedAnswer, Unreachable
from asana_exports_client.models import Problem
from asana_exports_client.problems import problem_error

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
# Refused before anything was done.
REFUSED = {429}
PASSING = {502, 503, 504} | REFUSED
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def decoded(response: httpx.Response, answer: type[T]) -> T:
    """The body as that type. Raises `UnexpectedAnswer`."""
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.MsgspecError as error:
        raise UnexpectedAnswer(response.status_code, f"not what this client expects: {error}") from None


def error_of(response: httpx.Response) -> ProblemError | UnexpectedAnswer:
    """The error that an answer tells of, whose body was read."""
    after = response.headers.get("Retry-After", "")
    retry_after = float(after) if after.isdecimal() else None
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.MsgspecError:
        return UnexpectedAnswer(response.status_code, response.text[:200], retry_after)
    return problem_error(problem, retry_after)


def is_passing(error: BaseException) -> bool:
    """Whether it may be over soon, for requests that may be sent twice."""
    if isinstance(error, ProblemError):
        return error.status in PASSING or error.code == "idempotency-in-progress"
    return isinstance(error, Unreachable) or (isinstance(error, UnexpectedAnswer) and error.status in PASSING)


def was_not_done(error: BaseException) -> bool:
    """Whether the request has certainly done nothing, so that sending it again does nothing twice."""
    if isinstance(error, Unreachable):
        return isinstance(error.__cause__, NOT_SENT)
    return isinstance(error, ProblemError | UnexpectedAnswer) and error.status in REFUSED


def pause(state: RetryCallState) -> float:
    """Seconds until the next try: as the service says, else doubling; never the same for all callers."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ProblemError | UnexpectedAnswer) and error.retry_after is not None:
        return error.retry_after * uniform(1, 1.2) + uniform(0, FIRST_PAUSE)  # noqa: S311
    doubled: float = FIRST_PAUSE * 2 ** min(state.attempt_number, 10)
    return min(doubled, LONGEST_PAUSE) * uniform(0.5, 1)  # noqa: S311
