"""The options by which an export is asked for, once or by a schedule."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from asana_exports_client._requests import Options, Wanted
from asana_exports_client.cli.values import moment, names, pairs, seconds
from asana_exports_client.models import ExportRequestParameter, Filters, Priority, ResourceType

WHAT, WHICH, HOW = "What to export", "Which of them: filters for all types named", "How"
People = list[str] | None


def _what(*names: str, **rest: Any) -> Any:
    return typer.Option(*names, rich_help_panel=WHAT, **rest)


def _people(name: str, who: str) -> Any:
    return typer.Option(name, metavar="GIDS", help=f"{who} any of these users.", rich_help_panel=WHICH)


def _time(name: str, says: str) -> Any:
    return typer.Option(name, metavar="WHEN", help=says, rich_help_panel=WHICH)


def _how(*names: str, **rest: Any) -> Any:
    return typer.Option(*names, rich_help_panel=HOW, **rest)


@dataclass(frozen=True)
class Asked:
    """What was asked for, as it was typed."""

    workspace: str
    parent: str | None
    types: list[ResourceType]
    fields: list[str] | None
    people: dict[str, list[str]]
    times: dict[str, str]
    parameters: bytes | None
    options: Options

    def filters(self, time: Callable[[str], Any] = moment) -> dict[str, Any] | None:
        """By Asana's names; `time` reads moments. None where there is no filter."""
        found = {**self.people, **{name: time(text) for name, text in self.times.items()}}
        return found or None

    def wanted(self) -> list[Wanted]:
        """Types, or items with filters of their own. Raises `typer.BadParameter`."""
        if self.parameters is None:
            return [*self.types]
        return [*_read(self.parameters, list[Parameter])]

    def items(self, time: Callable[[str], Any]) -> list[Any]:
        """Asana's `export_request_parameters`. Raises `typer.BadParameter`."""
        if self.parameters is not None:
            return [*_read(self.parameters, list[dict[str, Any]])]
        common = {"fields": self.fields, "filters": self.filters(time)}
        said = {name: value for name, value in common.items() if value is not None}
        return [{"resource_type": each, **said} for each in self.types]


class StrictFilters(Filters, kw_only=True, forbid_unknown_fields=True):
    """A filter that is misspelt must not be left out: everything would be exported."""


class Parameter(ExportRequestParameter, kw_only=True, forbid_unknown_fields=True):
    """As Asana has it."""

    filters: StrictFilters | msgspec.UnsetType | None = msgspec.UNSET


def _read(content: bytes, type_: Any) -> Any:
    try:
        return msgspec.json.decode(content, type=type_)
    except msgspec.MsgspecError as error:
        raise typer.BadParameter(str(error), param_hint="--parameters") from None


def asked(
    workspace: Annotated[str, _what("--workspace", "-w", metavar="GID", help="Of this workspace.")],
    types: Annotated[
        list[ResourceType] | None, _what("--type", "-t", help="All of these; repeat. Else tasks.")
    ] = None,
    parent: Annotated[
        str | None,
        _what(metavar="GID", help="This goal, team, portfolio or project instead, and what is below."),
    ] = None,
    fields: Annotated[
        list[str] | None, _what(metavar="NAMES", help="Fields, such as gid,assignee.name.")
    ] = None,
    parameters: Annotated[
        Path | None,
        _what(
            metavar="FILE",
            help="Asana's export_request_parameters as JSON, for other filters for each; - reads them here.",
        ),
    ] = None,
    assignee: Annotated[People, _people("--assignee", "Tasks assigned to")] = None,
    assigned_by: Annotated[People, _people("--assigned-by", "Tasks assigned by")] = None,
    commented_on_by: Annotated[People, _people("--commented-on-by", "Commented on by")] = None,
    created_by: Annotated[People, _people("--created-by", "Created by")] = None,
    followers: Annotated[People, _people("--follower", "Followed by")] = None,
    liked_by: Annotated[People, _people("--liked-by", "Liked by")] = None,
    created_after: Annotated[
        str | None, _time("--created-after", "2026-01-31, a time of ISO 8601, or 24h for so long before.")
    ] = None,
    created_before: Annotated[str | None, _time("--created-before", "The same.")] = None,
    modified_after: Annotated[str | None, _time("--modified-after", "The same.")] = None,
    modified_before: Annotated[str | None, _time("--modified-before", "The same.")] = None,
    priority: Annotated[Priority, _how(help="Higher ones go first.")] = Priority.NORMAL,
    max_age: Annotated[
        str | None, _how(metavar="TIME", help="Data as old as 1h will do: another's run is shared.")
    ] = None,
    queue_ttl: Annotated[
        str | None, _how(metavar="TIME", help="Fail if it has not started in so long.")
    ] = None,
    labels: Annotated[
        list[str] | None, _how("--label", metavar="NAME=VALUE", help="To find it by; repeat.")
    ] = None,
) -> Asked:
    """Raises `typer.BadParameter` for what cannot be meant."""
    people = {
        "assignee.any": assignee,
        "assigned_by.any": assigned_by,
        "commented_on_by.any": commented_on_by,
        "created_by.any": created_by,
        "followers.any": followers,
        "liked_by.any": liked_by,
    }
    times = {
        "created_at.after": created_after,
        "created_at.before": created_before,
        "modified_at.after": modified_after,
        "modified_at.before": modified_before,
    }
    found = Asked(
        workspace=workspace,
        parent=parent,
        types=types or [ResourceType.TASK],
        fields=names(fields) if fields else None,
        people={name: names(gids) for name, gids in people.items() if gids},
        times={name: text for name, text in times.items() if text is not None},
        parameters=None if parameters is None else _content(parameters),
        options=_options(priority, max_age, queue_ttl, labels),
    )
    narrowed = types or found.fields or found.people or found.times
    if parent and (narrowed or parameters):
        raise typer.BadParameter(
            "A graph export has neither types nor filters nor fields.", param_hint="--parent"
        )
    if parameters and narrowed:
        raise typer.BadParameter("It says types, filters and fields itself.", param_hint="--parameters")
    return found


def _content(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--parameters") from None


def _options(
    priority: Priority, max_age: str | None, queue_ttl: str | None, labels: list[str] | None
) -> Options:
    options = Options(priority=priority)
    if max_age is not None:
        options["max_age"] = seconds(max_age)
    if queue_ttl is not None:
        options["queue_ttl"] = seconds(queue_ttl)
    if labels:
        options["labels"] = pairs(labels)
    return options


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, which takes `asked` first after its context, all options of the function `asked`."""
    theirs = inspect.signature(asked).parameters
    context, _, *own = inspect.signature(command).parameters.values()
    every = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in [*theirs.values(), *own]]

    @wraps(command)
    def called(ctx: typer.Context, **given: Any) -> None:
        for_it = asked(**{name: given.pop(name) for name in theirs})
        command(ctx, for_it, **given)

    called.__annotations__ = {each.name: each.annotation for each in [context, *every]}
    vars(called)["__signature__"] = inspect.Signature([context, *every])
    return called
