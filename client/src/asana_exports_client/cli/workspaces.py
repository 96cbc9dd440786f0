"""What can be exported, and by which tokens, for administrators."""

from typing import Annotated

import typer

from asana_exports_client.cli.lanes import Note, Workspace
from asana_exports_client.cli.screen import Column, as_json, data, rows, say, sign
from asana_exports_client.cli.session import Command, session
from asana_exports_client.cli.values import secret
from asana_exports_client.models import CredentialCreate, TokenReplace, WorkspacePut

CredentialId = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="Its id, cred_….")]

workspaces = typer.Typer(no_args_is_help=True, help="What can be exported.")
credentials = typer.Typer(no_args_is_help=True, help="Asana tokens: stored and replaced, never shown.")

WORKSPACES = (
    Column("GID", lambda workspace: workspace.gid, whole=True),
    Column("NAME", lambda workspace: workspace.name),
    Column("CREDENTIAL", lambda workspace: workspace.credential, whole=True),
    Column("CHANGED", lambda workspace: workspace.updated_at, from_width=90),
)
CREDENTIALS = (
    Column("ID", lambda credential: credential.id, whole=True),
    Column("NAME", lambda credential: credential.name),
    Column("STATE", lambda credential: credential.state, whole=True),
    Column("OF", lambda credential: credential.asana_user_name, from_width=80),
    Column("CHANGED", lambda credential: credential.updated_at, from_width=110),
)


@workspaces.command("ls", cls=Command)
def list_workspaces(ctx: typer.Context) -> None:
    """List the workspaces that you may see."""
    options = session(ctx)
    with options.client() as client:
        rows(WORKSPACES, client.workspaces.list(), json=options.json, none="You may see no workspace.")


@workspaces.command("add", cls=Command)
def add_workspace(
    ctx: typer.Context,
    workspace: Workspace,
    credential: Annotated[str, typer.Option(metavar="ID", help="The token that exports it.")],
    retention_days: Annotated[
        int | None, typer.Option(min=1, help="For how long its files are kept.")
    ] = None,
    note: Note = None,
) -> None:
    """Register a workspace, or say anew by which token it is exported."""
    wanted = WorkspacePut(credential=credential, retention_days=retention_days, note=note)
    options = session(ctx)
    with options.client() as client:
        made = client.workspaces.put(workspace, wanted)
    if options.json:
        as_json(made)
    else:
        say(f"{sign('succeeded')} {made.name} ({made.gid}) can be exported.", "green")


@workspaces.command("rm", cls=Command)
def remove_workspace(ctx: typer.Context, workspace: Workspace, note: Note = None) -> None:
    """Accept no exports of a workspace from now on."""
    with session(ctx).client() as client:
        client.workspaces.delete(workspace, note)
    say(f"{sign('succeeded')} Exports of {workspace} are no longer accepted.", "green")


@credentials.command("ls", cls=Command)
def list_credentials(ctx: typer.Context) -> None:
    """List what is known of each token."""
    options = session(ctx)
    with options.client() as client:
        rows(CREDENTIALS, client.credentials.list(), json=options.json, none="There are no credentials.")


@credentials.command("add", cls=Command)
def add_credential(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="Yours.")], note: Note = None
) -> None:
    """Store a token, which is asked for or read from standard input; prints its id."""
    options = session(ctx)
    with options.client() as client:
        token = secret("Asana token")
        made = client.credentials.create(CredentialCreate(name=name, token=token, note=note))
    if options.json:
        as_json(made)
        return
    data(made.id)
    say(f"{sign('succeeded')} A token of {made.asana_user_name} is stored.", "green")


@credentials.command("replace", cls=Command)
def replace_token(ctx: typer.Context, credential: CredentialId, note: Note = None) -> None:
    """Store another token, asked for or read from standard input; what is running goes on with it."""
    options = session(ctx)
    with options.client() as client:
        token = secret("Asana token")
        made = client.credentials.replace(credential, TokenReplace(token=token, note=note))
    if options.json:
        as_json(made)
    else:
        say(f"{sign(made.state)} {made.name} has a token of {made.asana_user_name}.", "green")
