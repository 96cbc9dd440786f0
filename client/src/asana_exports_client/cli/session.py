"""What all commands have in common: their options, the service they talk to, how they end."""

from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption
from typer.exceptions import TyperException

from asana_exports_client._sync.client import Client
from asana_exports_client.cli.config import chosen
from asana_exports_client.cli.exits import Exit, ended_by

# Seconds for which what fails for the moment is tried again before a person is told.
PATIENCE = 10.0


@dataclass
class Session:
    """The options that every command has."""

    url: str | None = None
    profile: str | None = None
    json: bool = False
    debug: bool = False

    def client(self) -> Client:
        """The service that is meant. Raises `ConfigError`."""
        meant = chosen(self.url, self.profile)
        return Client(meant.url, meant.key, patience=PATIENCE)


def session(ctx: typer.Context) -> Session:
    """The options given to the command that runs."""
    return ctx.ensure_object(Session)


class Command(TyperCommand):
    """A command with the common options, whose errors are told in a line or two."""

    def __init__(self, name: str | None, *, params: list[Any] | None = None, **rest: Any) -> None:
        super().__init__(name, params=[*(params or []), *_common()], **rest)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(Exit.INTERRUPTED) from None
        except Exception as error:  # noqa: BLE001 - a person is told, whatever it is
            options = session(ctx)
            raise ended_by(error, json=options.json, debug=options.debug) from None


def _common() -> list[TyperOption]:
    return [
        _option(
            "--json", "JSON on standard output: a document, or a line for each of several.", is_flag=True
        ),
        _option("--profile", "A profile of the configuration file.", metavar="NAME"),
        _option("--url", "The address of the service.", metavar="URL"),
        _option("--debug", "Show where an error came from.", is_flag=True),
    ]


def _option(name: str, says: str, **rest: Any) -> TyperOption:
    def keep(ctx: Any, _: Any, value: Any) -> None:
        if value:
            setattr(session(ctx), name.removeprefix("--"), value)

    return TyperOption(
        # A name of its own: a command may have a parameter `url` that is something else.
        param_decls=[f"everywhere_{name.removeprefix('--')}", name],
        help=says,
        callback=keep,
        expose_value=False,
        rich_help_panel="Everywhere",
        **rest,
    )
