"""How a command ends: its exit code, and what is said of an error."""

import traceback
from enum import IntEnum

import msgspec
import typer
from httpx import codes
from typer.exceptions import TyperException

from asana_exports_client import problems
from asana_exports_client.cli.config import ConfigError
from asana_exports_client.cli.screen import say, sign
from asana_exports_client.errors import (
    AsanaExportsError,
    Damaged,
    ExportCanceled,
    ExportFailed,
    NotFinished,
    ProblemError,
    UnexpectedAnswer,
    Unreachable,
)


class Exit(IntEnum):
    """Part of what scripts may rely on: no number ever changes its meaning."""

    OK = 0
    OTHER = 1
    USAGE = 2
    FAILED = 3
    CANCELED = 4
    REFUSED = 5
    NOT_AUTHORISED = 6
    NOT_FOUND = 7
    UNREACHABLE = 8
    DAMAGED = 9
    TIMED_OUT = 124
    INTERRUPTED = 130


def ended_by(error: Exception, *, json: bool, debug: bool) -> typer.Exit:
    """Say what happened and what to do, and give the way to end. Only `debug` shows where it came from."""
    if debug:
        say("".join(traceback.format_exception(error)), "dim")
    problem = error.problem if isinstance(error, ExportFailed) else error
    if json:
        _tell_as_json(error, problem)
    else:
        _tell(error, problem)
    return typer.Exit(exit_of(error))


def _tell(error: Exception, problem: Exception) -> None:
    say(f"{sign('failed')} {_happened(error)}", "red")
    if isinstance(problem, ProblemError):
        for fault in problem.errors:
            say(f"  {fault.pointer or '/'}: {fault.detail}")
        say(problem.code + (f" · request {problem.request_id}" if problem.request_id else ""), "dim")
    if advice := _advice(error):
        say(advice, "dim")


def _tell_as_json(error: Exception, problem: Exception) -> None:
    """A line on standard error; standard output has data only."""
    told = {"message": _happened(error), "advice": _advice(error), "exit_code": exit_of(error)}
    if isinstance(problem, ProblemError):
        told |= {"code": problem.code, "errors": problem.errors, "request_id": problem.request_id}
    say(msgspec.json.encode({"error": told}).decode())


def misused(error: TyperException) -> int:
    """Say what is wrong with the command line; the exit code."""
    # Without a message it stands for no command at all, and the help has been shown.
    if said := error.format_message().strip():
        say(f"{sign('failed')} {said}", "red")
        if context := getattr(error, "ctx", None):
            say(f"More: {context.command_path} --help", "dim")
    return error.exit_code


def exit_of(error: Exception) -> Exit:
    match error:
        case ExportFailed():
            return Exit.FAILED
        case ExportCanceled():
            return Exit.CANCELED
        case ProblemError():
            return _exit_of_problem(error.status)
        case NotFinished():
            return Exit.REFUSED
        case ConfigError():
            return Exit.NOT_AUTHORISED
        case Unreachable() | UnexpectedAnswer():
            return Exit.UNREACHABLE
        case Damaged():
            return Exit.DAMAGED
        case TimeoutError():
            return Exit.TIMED_OUT
        case ValueError():
            return Exit.USAGE
    return Exit.OTHER


def _exit_of_problem(status: int | None) -> Exit:
    match status:
        case codes.UNAUTHORIZED | codes.FORBIDDEN:
            return Exit.NOT_AUTHORISED
        case codes.NOT_FOUND | codes.GONE:
            return Exit.NOT_FOUND
        case codes.TOO_MANY_REQUESTS:
            return Exit.UNREACHABLE
        case int() if codes.is_server_error(status):
            return Exit.UNREACHABLE
    return Exit.REFUSED


def _happened(error: Exception) -> str:
    match error:
        case ProblemError():
            return f"{error.title} {error.detail}"
        case ExportFailed():
            return f"The export {error.export.id} has failed. {error.problem.title} {error.problem.detail}"
        case Unreachable():
            return f"The service cannot be reached. {error}"
        case UnexpectedAnswer():
            return f"That is no answer of the service. {error}"
        case Damaged():
            return f"The file is not the verified one. {error}"
        case AsanaExportsError() | ConfigError() | ValueError() | TimeoutError() | ImportError():
            return str(error)
        case OSError(filename=name) if name:
            return f"{name}: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def _advice(error: Exception) -> str:
    match error:
        case problems.Unauthenticated():
            return "Is it the right key? asana-exports login"
        case ProblemError() if type(error) is not ProblemError:
            # The docstring of a generated class has a title, then what to do.
            return " ".join((type(error).__doc__ or "").partition("\n\n")[2].split())
        case ExportCanceled() | ExportFailed(problem=ProblemError(retryable=True)):
            return f"Ask again for the same: asana-exports retry {error.export.id}"
        case ExportFailed():
            return _advice(error.problem)
        case NotFinished():
            return f"Wait for it: asana-exports watch {error.export.id}"
        case Unreachable() | UnexpectedAnswer():
            return "Is the address right? `asana-exports status` tells it. What was asked for goes on there."
        case Damaged():
            return "Nothing was kept of it. Get it again."
        case AsanaExportsError() | ConfigError() | ValueError() | OSError() | ImportError():
            return ""
    return "This should not happen; --debug shows where it came from."
