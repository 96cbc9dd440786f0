"""Problems as Asana tells them, on the part of the API that is spoken to as Asana is."""

from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

from app.problems import EXPLANATIONS, Code, Fault, Problem

BASE = "/api/1.0"
# Where Asana knows no such status, the one that comes nearest.
STATUSES_HERE = {
    Code.VALIDATION_FAILED: 400,
    Code.UNSUPPORTED_MEDIA_TYPE: 400,
    Code.IDEMPOTENCY_KEY_REUSED: 400,
    Code.IDEMPOTENCY_IN_PROGRESS: 429,
    Code.LANE_DRAINING: 503,
}
ASANAS_WORDS = {
    Code.UNAUTHENTICATED: "Not Authorized",
    Code.MALFORMED_JSON: "Could not parse request data, invalid JSON",
    Code.INTERNAL_ERROR: "Server Error",
}
NO_ROUTE = "No matching route"
REQUIRED, MISSING = "Field required", "Missing input"


class AsanaErrorOut(BaseModel):
    """One thing that is wrong."""

    message: str = Field(description="What is wrong, as `field: reason` where it is with a field.")
    help: str = Field(description="Our stable code, what to do, and where the code is explained.")
    phrase: str | None = Field(None, description="For 500 only: the request's id, to be reported.")


class AsanaErrorsOut(BaseModel):
    """What is wrong, in Asana's envelope: one entry for each fault."""

    errors: list[AsanaErrorOut]


class AsanaAnswer(Response):
    """JSON as Asana sends it."""

    media_type = "application/json; charset=UTF-8"

    def __init__(
        self,
        body: dict[str, Any],
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        pretty: bool = False,
    ) -> None:
        content = orjson.dumps(body, option=orjson.OPT_INDENT_2 if pretty else 0)
        super().__init__(content, status, {"Cache-Control": "no-store", **(headers or {})})


def speaks_asana(path: str) -> bool:
    """Whether a request to this path is answered as Asana would."""
    return path == BASE or path.startswith(f"{BASE}/")


def envelope(problem: Problem, status: int, request_id: str) -> dict[str, Any]:
    """The problem in Asana's form; our code, by which callers may decide, begins each `help`."""
    message = ASANAS_WORDS.get(problem.code, problem.detail)
    help_text = f"{problem.code}: {EXPLANATIONS[problem.code].advice} See /problems/{problem.code}."
    errors = [{"message": each, "help": help_text} for each in _told(problem.faults) or (message,)]
    if status == 500:
        errors[0]["phrase"] = request_id
    return {"errors": errors}


def _told(faults: tuple[Fault, ...]) -> list[str]:
    return [f"{_field(fault)}: {_reason(fault)}" for fault in faults]


def _field(fault: Fault) -> str:
    steps = fault.pointer.removeprefix("/data/").lstrip("/?").split("/")
    return ".".join(step.replace("~1", "/").replace("~0", "~") for step in steps) or "body"


def _reason(fault: Fault) -> str:
    return MISSING if fault.detail == REQUIRED else fault.detail
