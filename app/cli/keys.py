"""Commands about keys: those of internal tools, and those that encrypt tokens."""

from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from app.access.clients import ClientSpec, all_clients, client_by_name, create_client, revoke_client
from app.access.credentials import rotate_keys
from app.access.models import ALL_WORKSPACES, Client, Kind, Priority, Scope
from app.cli.program import Stop, faults_of, migrated_database, out, read_settings, run
from app.events.log import Cause

# What a tool needs that asks for exports and fetches their files.
CALLER = [Scope.EXPORTS_WRITE, Scope.EXPORTS_READ, Scope.ARTIFACTS_READ]
EVERYWHERE = [ALL_WORKSPACES]
BOTH_KINDS = list(Kind)

keys = typer.Typer(
    help="API keys, by which internal tools use the service; in the database itself.", no_args_is_help=True
)
secrets = typer.Typer(help="The keys that encrypt Asana tokens in the database.", no_args_is_help=True)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Of the tool that will use the key, such as `bi`.")],
    scope: Annotated[list[Scope], typer.Option(help="What the key may be used for; repeat.")] = CALLER,
    workspace: Annotated[
        list[str], typer.Option(metavar="GID", help="A workspace it may export, * for all; repeat.")
    ] = EVERYWHERE,
    kind: Annotated[list[Kind], typer.Option(help="An export it may ask for; repeat.")] = BOTH_KINDS,
    highest_priority: Annotated[
        Priority, typer.Option(help="The most urgent it may ask for.")
    ] = Priority.HIGH,
    default_workspace: Annotated[
        str | None, typer.Option(metavar="GID", help="Of graph exports as at Asana, which name none.")
    ] = None,
) -> None:
    """Make an API key and print it. Only a hash of it is kept: it cannot be shown again."""
    settings = read_settings()

    grants = [
        {"workspace": gid, "kinds": kind, "highest_priority": highest_priority} for gid in set(workspace)
    ]
    try:
        given = {"name": name, "scopes": scope, "grants": grants, "default_workspace": default_workspace}
        spec = ClientSpec.model_validate(given)
    except ValidationError as error:
        raise SystemExit(faults_of("the key cannot be made", error)) from None

    async def created() -> str:
        async with migrated_database(settings) as database, database.sessions.begin() as session:
            return (await create_client(session, spec, Cause("cli")))[1]

    out.print(run(created()), soft_wrap=True)


@keys.command("list")
def list_keys() -> None:
    """Show whose keys there are, what they may do, and when they were last used."""
    settings = read_settings()

    async def listed() -> Sequence[Client]:
        async with migrated_database(settings) as database, database.sessions() as session:
            return await all_clients(session)

    table = Table("name", "scopes", "workspaces", "last used", "", box=SIMPLE_HEAD)
    for client in run(listed()):
        used = client.last_used_at.strftime("%Y-%m-%d %H:%M") if client.last_used_at else "never"
        state = "revoked" if client.revoked_at else ""
        table.add_row(client.name, " ".join(client.scopes), " ".join(sorted(client.workspaces)), used, state)
    out.print(table)


@keys.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="As `keys list` shows it.")]) -> None:
    """Refuse a key from now on. What was asked for with it goes on."""
    settings = read_settings()

    async def revoked() -> None:
        async with migrated_database(settings) as database, database.sessions.begin() as session:
            client = await client_by_name(session, name)
            if client is None:
                raise Stop(f"There is no client named {name!r}.")
            await revoke_client(session, client.id, Cause("cli"))

    run(revoked())


@secrets.command("rotate")
def rotate_secrets() -> None:
    """Encrypt all tokens anew, by the first of the secret keys, while everything runs.

    A key kept in the data folder is replaced by a new one. Keys in the settings are yours to change: put the
    new one last and restart or let the file be read everywhere, then put it first, then rotate; after that
    the old ones may be taken out.
    """
    settings = read_settings()

    async def rotated() -> int:
        async with migrated_database(settings) as database:
            return await rotate_keys(database.sessions, settings, Cause("cli"))

    tokens = run(rotated())
    out.print(f"{tokens} token{'' if tokens == 1 else 's'} encrypted anew, by the first key.")
