"""All commands, those of the service too where it is installed."""

from collections.abc import Callable
from importlib.metadata import entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from asana_exports_client.cli import events, exports, lanes, login, run
from asana_exports_client.cli.clients import clients
from asana_exports_client.cli.exits import Exit, misused
from asana_exports_client.cli.schedules import schedules
from asana_exports_client.cli.session import Command
from asana_exports_client.cli.webhooks import webhooks
from asana_exports_client.cli.workspaces import credentials, workspaces

# What a distribution registers there has `COMMANDS`, the help of each by its name, and `load`, which gives
# the group that has them: so `--help` need not import it.
OTHERS = "asana_exports.commands"
EXPORTS, FOLLOW, ADMINISTRATION = "Exports", "Follow", "Administration"


class Group(TyperGroup):
    """Commands, some of which are imported only when they are used."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found.load() if isinstance(found, Deferred) else found, rest


class Deferred(TyperCommand):
    """Stands for a command of another distribution until it is used."""

    def __init__(self, name: str, says: str, panel: str, group: Callable[[], TyperGroup]) -> None:
        super().__init__(name, help=says, rich_help_panel=panel)
        self._group = group

    def load(self) -> Any:
        return self._group().commands[self.name or ""]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"asana-exports {version('asana-exports-client')}")
        raise typer.Exit


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """Exports of Asana: ask for them, wait for them, have their files.

    Begin with `asana-exports login`, then `asana-exports run --workspace GID --type task`.
    """


def _add(panel: str, *functions: Callable[..., Any]) -> None:
    for function in functions:
        app.command(cls=Command, rich_help_panel=panel)(function)


_add(EXPORTS, run.run, run.get, exports.ls, exports.show, exports.cancel, exports.retry)
_add(FOLLOW, run.watch, exports.story, events.events, lanes.lanes)
app.add_typer(schedules, name="schedules", rich_help_panel=FOLLOW)
app.add_typer(webhooks, name="webhooks", rich_help_panel=FOLLOW)
_add(ADMINISTRATION, login.login, login.logout, login.status, lanes.pause, lanes.drain, lanes.resume)
app.add_typer(workspaces, name="workspaces", rich_help_panel=ADMINISTRATION)
app.add_typer(credentials, name="credentials", rich_help_panel=ADMINISTRATION)
app.add_typer(clients, name="clients", rich_help_panel=ADMINISTRATION)


def command() -> TyperGroup:
    """The whole command."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # noqa: S101 - it has several commands
    for point in entry_points(group=OTHERS):
        offered = point.load()
        for name, says in offered.COMMANDS.items():
            if name not in group.commands:
                group.add_command(Deferred(name, says, point.name.capitalize(), offered.load))
    return group


def run_command() -> int:
    """Do what the command line says; the exit code."""
    try:
        code = command().main(prog_name="asana-exports", standalone_mode=False)
    except TyperException as error:
        return misused(error)
    except typer.Abort:
        return Exit.INTERRUPTED
    return code if isinstance(code, int) else Exit.OK
