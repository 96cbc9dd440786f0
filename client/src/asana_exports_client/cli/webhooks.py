"""Addresses that are told of events."""

from itertools import islice
from typing import Annotated

import typer

from asana_exports_client.cli.lanes import Note
from asana_exports_client.cli.screen import Column, as_json, data, facts, rows, say, sign
from asana_exports_client.cli.session import Command, session
from asana_exports_client.cli.values import moment
from asana_exports_client.models import (
    DeliveryState,
    PublicType,
    WebhookEndpoint,
    WebhookEndpointCreate,
    WebhookEndpointWithSecret,
)

EndpointId = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its id, whe_….")]

webhooks = typer.Typer(no_args_is_help=True, help="Addresses of yours that are told of events.")

COLUMNS = (
    Column("ID", lambda endpoint: endpoint.id, whole=True),
    Column("URL", lambda endpoint: endpoint.url),
    Column("TELLS OF", lambda endpoint: endpoint.types or "everything", from_width=120),
    Column("STATE", lambda endpoint: "disabled" if endpoint.disabled else "open"),
)
DELIVERIES = (
    Column("ID", lambda delivery: delivery.id, whole=True),
    Column("STATE", lambda delivery: delivery.state, whole=True),
    Column("WHAT", lambda delivery: delivery.type),
    Column("TRIES", lambda delivery: len(delivery.attempts), from_width=100),
    Column("CREATED", lambda delivery: delivery.created_at),
)


@webhooks.command("ls", cls=Command)
def list_webhooks(ctx: typer.Context) -> None:
    """List your endpoints."""
    options = session(ctx)
    with options.client() as client:
        rows(COLUMNS, client.webhooks.list(), json=options.json, none="You have no webhook endpoints.")


@webhooks.command("show", cls=Command)
def show_webhook(ctx: typer.Context, endpoint: EndpointId) -> None:
    """Show an endpoint."""
    options = session(ctx)
    with options.client() as client:
        found = client.webhooks.get(endpoint)
        as_json(found) if options.json else facts(_facts(found))


@webhooks.command("create", cls=Command)
def create_webhook(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where to post.")],
    type_: Annotated[
        list[PublicType] | None,
        typer.Option("--type", "-t", help="What to tell of; repeat. Else everything."),
    ] = None,
    workspace: Annotated[
        list[str] | None,
        typer.Option("--workspace", "-w", metavar="GID", help="Of which; repeat. Else all that you may see."),
    ] = None,
    description: Annotated[str, typer.Option(metavar="TEXT", help="Yours.")] = "",
    note: Note = None,
) -> None:
    """Make an endpoint; prints its secret, which is shown this once."""
    options = session(ctx)
    with options.client() as client:
        _with_secret(
            client.webhooks.create(
                WebhookEndpointCreate(
                    url=url,
                    types=type_ or [],
                    workspaces=workspace or [],
                    description=description,
                    note=note,
                )
            ),
            json=options.json,
        )


@webhooks.command("rm", cls=Command)
def remove_webhook(ctx: typer.Context, endpoint: EndpointId, note: Note = None) -> None:
    """Take an endpoint away, with what was still to be sent."""
    with session(ctx).client() as client:
        client.webhooks.delete(endpoint, note)
    say(f"{sign('succeeded')} The endpoint is gone.", "green")


@webhooks.command("test", cls=Command)
def send_test(ctx: typer.Context, endpoint: EndpointId, note: Note = None) -> None:
    """Send an event `webhook.test` to an endpoint; prints the delivery's id."""
    options = session(ctx)
    with options.client() as client:
        sent = client.webhooks.test(endpoint, note)
    if options.json:
        as_json(sent)
        return
    data(sent.id)
    say(f"What becomes of it: asana-exports webhooks deliveries {endpoint}", "dim")


@webhooks.command("rotate", cls=Command)
def rotate_webhook(ctx: typer.Context, endpoint: EndpointId, note: Note = None) -> None:
    """Give an endpoint another secret and print it; for a while both sign."""
    options = session(ctx)
    with options.client() as client:
        _with_secret(client.webhooks.rotate_secret(endpoint, note), json=options.json)


@webhooks.command("deliveries", cls=Command)
def deliveries(
    ctx: typer.Context,
    endpoint: EndpointId,
    state: Annotated[DeliveryState | None, typer.Option(help="Those that stand so.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Not more than so many.")] = 30,
) -> None:
    """List what was and is to be sent, the newest first."""
    options = session(ctx)
    with options.client() as client:
        found = islice(client.webhooks.deliveries(endpoint, state), limit)
        rows(DELIVERIES, found, json=options.json, none="Nothing was sent there.")


@webhooks.command("replay", cls=Command)
def replay(
    ctx: typer.Context,
    endpoint: EndpointId,
    delivery: Annotated[str | None, typer.Option(metavar="ID", help="This one.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Or all since then: a date, or 24h.")
    ] = None,
    note: Note = None,
) -> None:
    """Send again what was not taken."""
    if (delivery is None) == (since is None):
        raise typer.BadParameter("Name either --delivery or --since.", param_hint="--delivery")
    options = session(ctx)
    with options.client() as client:
        begun = client.webhooks.replay(endpoint, delivery, moment(since) if since else None, note)
    if options.json:
        as_json(begun)
        return
    say(f"{sign('succeeded')} {begun.deliveries} are sent again.", "green")
    if begun.more_since:
        say(f"There are more; then: --since {begun.more_since.isoformat()}", "dim")


def _facts(endpoint: WebhookEndpoint) -> list[tuple[str, object]]:
    return [
        ("id", endpoint.id),
        ("url", endpoint.url),
        ("description", endpoint.description),
        ("tells of", endpoint.types or "everything"),
        ("workspaces", endpoint.workspaces or "all that you may see"),
        ("state", "disabled" if endpoint.disabled else "open"),
        ("because of", endpoint.disabled_because and str(endpoint.disabled_because)),
        ("failing since", endpoint.failing_since),
        ("created", endpoint.created_at),
    ]


def _with_secret(endpoint: WebhookEndpointWithSecret, *, json: bool) -> None:
    if json:
        as_json(endpoint)
        return
    say(f"{sign('succeeded')} {endpoint.id}. Its secret is shown this once:", "green")
    data(endpoint.secret)
