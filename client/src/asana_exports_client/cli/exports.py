"""Exports: list them, look at one, end it, ask again."""

from itertools import islice
from typing import Annotated

import typer
from rich.filesize import decimal

from asana_exports_client.cli.following import note_on
from asana_exports_client.cli.run import ExportId, what
from asana_exports_client.cli.screen import Column, as_json, data, facts, hint, rows, say, sign, span
from asana_exports_client.cli.session import session
from asana_exports_client.cli.values import moment
from asana_exports_client.models import Event, Export, Kind, Status

COLUMNS = (
    Column("ID", lambda export: export.id, whole=True),
    Column("STATUS", lambda export: export.status, whole=True),
    Column("WORKSPACE", lambda export: export.workspace),
    Column("OF", what, from_width=90),
    Column("CREATED", lambda export: export.created_at, whole=True),
    Column("BY", lambda export: export.created_by, from_width=110),
    Column("LABELS", lambda export: export.labels, from_width=130),
)
STORY = (
    Column("WHEN", lambda event: event.created_at, whole=True),
    Column("WHAT", lambda event: event.type, whole=True),
    Column("BY", lambda event: event.actor, from_width=60),
)


def ls(
    ctx: typer.Context,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", metavar="GID")] = None,
    status: Annotated[Status | None, typer.Option(help="Those that stand so.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Of this kind.")] = None,
    label: Annotated[str | None, typer.Option(metavar="NAME=VALUE", help="With this label.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Created since then: a date, or 24h.")
    ] = None,
    schedule: Annotated[str | None, typer.Option(metavar="ID", help="Asked for by this schedule.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Not more than so many.")] = 30,
) -> None:
    """List exports, the newest first."""
    options = session(ctx)
    with options.client() as client:
        found = client.list(
            workspace=workspace,
            status=status,
            kind=kind,
            label=label.replace("=", ":", 1) if label else None,
            created_after=moment(since) if since else None,
            schedule=schedule,
        )
        rows(COLUMNS, islice(found, limit), json=options.json, none="There are no such exports.")
        if next(found, None):
            hint(f"There are more: --limit {2 * limit}")


def show(ctx: typer.Context, export_id: ExportId) -> None:
    """Show an export, and where its time has gone."""
    options = session(ctx)
    with options.client() as client:
        export = client.get(export_id)
        if options.json:
            as_json(export)
            return
        facts(_facts(export))
        if export.error:
            say(f"{sign('failed')} {export.error.title} {export.error.detail}", "red")
        if export.artifact and export.artifact.state in {"available", "expiring"}:
            hint(f"asana-exports get {export.id}")


def _facts(export: Export) -> list[tuple[str, object]]:
    file = export.artifact
    parts = {
        name.removesuffix("_ms").replace("_", " "): span(value / 1000)
        for name in type(export.latency).__struct_fields__
        if (value := getattr(export.latency, name))
    }
    return [
        ("id", export.id),
        ("status", export.status),
        ("now", note_on(export)),
        ("of", f"{what(export)} of {export.workspace}"),
        ("priority", str(export.priority)),
        ("labels", export.labels),
        ("asked by", export.created_by),
        ("created", export.created_at),
        ("finished", export.finished_at),
        ("needed by", export.deliver_by),
        ("time", ", ".join(f"{name} {value}" for name, value in parts.items())),
        ("retry of", export.retry_of),
        ("code", export.error.code if export.error else None),
        ("warnings", [warning.detail for warning in export.warnings]),
        ("file", file.state if file else None),
        ("lines", file.by_type if file else None),
        ("size", decimal(file.bytes) if file else None),
        ("sha256", file.sha256 if file else None),
        ("kept until", file.expires_at if file else None),
    ]


def story(ctx: typer.Context, export_id: ExportId) -> None:
    """Show what happened to an export, in order."""
    options = session(ctx)
    with options.client() as client:
        found: list[Event] = client.timeline(export_id)
        rows(STORY, found, json=options.json, none="Nothing is known of it any more.")


def cancel(ctx: typer.Context, export_ids: Annotated[list[str], typer.Argument(metavar="EXPORT...")]) -> None:
    """Cancel exports."""
    options = session(ctx)
    with options.client() as client:
        for each in export_ids:
            now = client.cancel(each)
            if options.json:
                as_json(now)
            else:
                say(f"{sign(now.status)} {now.id} is {now.status}.")


def retry(
    ctx: typer.Context,
    export_id: ExportId,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Asked again with it, no second one is made.")
    ] = None,
) -> None:
    """Ask again for what an ended export was asked for; prints the id of the new one."""
    options = session(ctx)
    with options.client() as client:
        made = client.retry(export_id, idempotency_key=idempotency_key)
    if options.json:
        as_json(made)
        return
    data(made.id)
    hint(f"asana-exports watch {made.id}")
