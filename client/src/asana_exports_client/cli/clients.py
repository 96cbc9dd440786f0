"""Who may use the service, for administrators."""

from typing import Annotated

import typer

from asana_exports_client.cli.lanes import Note
from asana_exports_client.cli.screen import Column, as_json, data, rows, say, sign
from asana_exports_client.cli.session import Command, session
from asana_exports_client.models import ClientCreate, ClientWithKey, GrantSpec, Kind, Priority, Scope

ClientId = Annotated[str, typer.Argument(metavar="CLIENT", help="Its id, as `clients ls` shows it.")]
CALLER = [Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ]

clients = typer.Typer(no_args_is_help=True, help="Who may use the service, by which keys.")

COLUMNS = (
    Column("ID", lambda client: client.id, whole=True),
    Column("NAME", lambda client: client.name),
    Column("SCOPES", lambda client: client.scopes, from_width=110),
    Column("WORKSPACES", lambda client: [grant.workspace for grant in client.grants], from_width=90),
    Column("LAST USED", lambda client: client.last_used_at or "never"),
    Column("", lambda client: "revoked" if client.revoked_at else ""),
)


@clients.command("ls", cls=Command)
def list_clients(ctx: typer.Context) -> None:
    """List all clients."""
    options = session(ctx)
    with options.client() as client:
        rows(COLUMNS, client.clients.list(), json=options.json, none="There are no clients.")


@clients.command("create", cls=Command)
def create_client(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the tool that will use the key, such as `bi`.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="What its key may be used for; repeat. Else for asking, following and downloading."
        ),
    ] = None,
    workspace: Annotated[
        list[str] | None,
        typer.Option("--workspace", "-w", metavar="GID", help="A workspace it may export; repeat. Else all."),
    ] = None,
    kind: Annotated[
        list[Kind] | None, typer.Option(help="An export it may ask for; repeat. Else both.")
    ] = None,
    highest_priority: Annotated[
        Priority, typer.Option(help="The most urgent it may ask for.")
    ] = Priority.HIGH,
    note: Note = None,
) -> None:
    """Make a client; prints its key, which is shown this once."""
    grants = [
        GrantSpec(workspace=gid, kinds=kind or [*Kind], highest_priority=highest_priority)
        for gid in workspace or ["*"]
    ]
    wanted = ClientCreate(name=name, scopes=scope or CALLER, grants=grants, note=note)
    options = session(ctx)
    with options.client() as client:
        _with_key(client.clients.create(wanted), json=options.json)


@clients.command("revoke", cls=Command)
def revoke_client(ctx: typer.Context, client_id: ClientId, note: Note = None) -> None:
    """Let a client's key open nothing from now on. What it has asked for goes on."""
    options = session(ctx)
    with options.client() as client:
        revoked = client.clients.revoke(client_id, note)
    if options.json:
        as_json(revoked)
    else:
        say(f"{sign('revoked')} The key of {revoked.name} opens nothing any more.")


@clients.command("replace", cls=Command)
def replace_key(ctx: typer.Context, client_id: ClientId, note: Note = None) -> None:
    """Give a client another key and print it; the old one opens nothing from now on."""
    options = session(ctx)
    with options.client() as client:
        _with_key(client.clients.replace_key(client_id, note), json=options.json)


def _with_key(client: ClientWithKey, *, json: bool) -> None:
    if json:
        as_json(client)
        return
    say(f"{sign('succeeded')} {client.name} is {client.id}. Its key is shown this once:", "green")
    data(client.key)
