"""Asking for an export, waiting for it, having its file."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Annotated

import msgspec
import typer
from rich.filesize import decimal

from asana_exports_client._outcome import artifact_of, succeeded
from asana_exports_client._sync.client import Client
from asana_exports_client.cli.asking import HOW, Asked, asking
from asana_exports_client.cli.exits import Exit
from asana_exports_client.cli.following import downloading, followed
from asana_exports_client.cli.screen import as_json, data, facts, say, sign, span
from asana_exports_client.cli.session import Session, session
from asana_exports_client.cli.values import moment_to_come, seconds
from asana_exports_client.errors import AsanaExportsError
from asana_exports_client.models import Artifact, Conversion, Export, Format, OutputFile, Plan

ExportId = Annotated[str, typer.Argument(metavar="EXPORT", help="Its id, exp_….")]
OutputPath = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to put it; - writes its lines out, unpacked."),
]
Timeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Wait no longer than so long; it goes on all the same.")
]


@asking
def run(
    ctx: typer.Context,
    asked: Asked,
    output: OutputPath = None,
    deliver_by: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="When it is needed; 2h is in so long.", rich_help_panel=HOW),
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Asked again with it, no second one is made.", rich_help_panel=HOW),
    ] = None,
    timeout: Timeout = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the id of the export, and end.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would become of it.")] = False,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Let Ctrl-C cancel the export.")
    ] = False,
) -> None:
    """Ask for an export, follow it, and fetch its file.

    Ctrl-C ends the command and leaves the export. The path of the file is printed on standard output.
    """
    if deliver_by:
        asked.options["deliver_by"] = moment_to_come(deliver_by)
    limit = None if timeout is None else seconds(timeout)
    _check_place(output)
    options = session(ctx)
    with options.client() as client:
        if dry_run:
            _tell_plan(_planned(client, asked), options)
            return
        if idempotency_key:
            asked.options["idempotency_key"] = idempotency_key
        export = _submitted(client, asked)
        if no_wait:
            as_json(export) if options.json else data(export.id)
            return
        say(f"{export.id}  {what(export)} of {export.workspace}", "bold")
        with _interruptible(client, export, output, cancel=cancel_on_interrupt):
            _fetched(client, _awaited(client, export, options, limit), output, options)


def watch(ctx: typer.Context, export_id: ExportId, timeout: Timeout = None) -> None:
    """Follow an export to its end."""
    limit = None if timeout is None else seconds(timeout)
    options = session(ctx)
    with options.client() as client:
        export = client.get(export_id)
        with _interruptible(client, export, None):
            ended = _awaited(client, export, options, limit)
        if options.json:
            as_json(ended)
        say(f"Get its file: asana-exports get {export.id}", "dim")


def get(
    ctx: typer.Context,
    export_id: ExportId,
    output: OutputPath = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Another format: a file for each resource type.")
    ] = None,
    timeout: Timeout = None,
) -> None:
    """Fetch the file of an export, once there is one.

    A download that was cut goes on where it was. Until it is whole and verified the file is named `….part`.
    """
    if not format_:
        _check_place(output)
    end = None if timeout is None else time.monotonic() + seconds(timeout)
    options = session(ctx)
    with options.client() as client:
        export = client.get(export_id)
        with _interruptible(client, export, output):
            if not export.artifact:
                export = _awaited(client, export, options, _left(end))
            if format_:
                made = client.artifacts.convert(artifact_of(export), format_, _left(end))
                _fetched_as(client, export, made, output, options)
            else:
                _fetched(client, export, output, options)


def _check_place(output: Path | None) -> None:
    """Before hours are waited for a file that has no place. Raises `typer.BadParameter`."""
    if output and output.is_dir():
        raise typer.BadParameter(f"{output} is a folder; name a file.", param_hint="--output")
    if output and not output.parent.is_dir():
        raise typer.BadParameter(f"There is no folder {output.parent}.", param_hint="--output")


def _submitted(client: Client, asked: Asked) -> Export:
    if asked.parent:
        return client.export_graph(asked.workspace, asked.parent, **asked.options)
    return client.export_resource(
        asked.workspace, asked.wanted(), fields=asked.fields, filters=asked.filters(), **asked.options
    )


def _planned(client: Client, asked: Asked) -> Plan:
    if asked.parent:
        return client.plan(asked.workspace, parent=asked.parent, **asked.options)
    return client.plan(
        asked.workspace, asked.wanted(), fields=asked.fields, filters=asked.filters(), **asked.options
    )


def _tell_plan(plan: Plan, options: Session) -> None:
    if options.json:
        as_json(plan)
        return
    eta = plan.queue.eta if plan.queue else None
    facts(
        [
            ("status", plan.status),
            ("shares the run", plan.shares_run),
            ("position", plan.queue.position if plan.queue else None),
            ("starts about", eta.start_p50 if eta else None),
            ("done by", eta.finish_p90 if eta else None),
        ]
    )


@contextmanager
def _interruptible(
    client: Client, export: Export, output: Path | None, *, cancel: bool = False
) -> Iterator[None]:
    """Ctrl-C ends the wait; the export only where that was asked for."""
    try:
        yield
    except KeyboardInterrupt:
        if cancel:
            with suppress(AsanaExportsError):
                now = client.cancel(export)
                say(f"{sign(now.status)} Interrupted; the export {export.id} is {now.status}.", "yellow")
                raise typer.Exit(Exit.INTERRUPTED) from None
        to = f" -o {quote(str(output))}" if output else ""
        say("Interrupted; the export goes on. Go on with it, or end it:", "yellow")
        say(f"  asana-exports get {export.id}{to}\n  asana-exports cancel {export.id}")
        raise typer.Exit(Exit.INTERRUPTED) from None
    except TimeoutError:
        say(f"Go on with it: asana-exports watch {export.id}", "dim")
        raise


def _awaited(client: Client, export: Export, options: Session, timeout: float | None) -> Export:
    """The export once it has succeeded; where it has not, it is data too."""
    *_, now = followed(client, export, timeout)
    try:
        succeeded(now)
    except AsanaExportsError:
        if options.json:
            as_json(now)
        raise
    say(f"{sign('succeeded')} succeeded in {span(now.latency.total_ms / 1000)}", "green")
    return now


def _fetched(client: Client, export: Export, output: Path | None, options: Session) -> None:
    artifact = artifact_of(export)
    if output and str(output) == "-":
        for line in client.records(export, msgspec.Raw):
            sys.stdout.buffer.write(bytes(line) + b"\n")
        return
    path = output or Path(f"{export.id}.jsonl.gz")
    _downloaded(client, artifact, path)
    counts = ", ".join(f"{count:,} {name}" for name, count in artifact.by_type.items())
    _tell_verified(f"{artifact.lines:,} lines ({counts or 'empty'})", artifact)
    for warning in export.warnings:
        say(f"! {warning.detail}", "yellow")
    if options.json:
        as_json({"export": export, "files": [str(path)]})
    else:
        data(str(path))


def _left(end: float | None) -> float | None:
    return None if end is None else max(end - time.monotonic(), 0)


def _fetched_as(
    client: Client, export: Export, made: Conversion, output: Path | None, options: Session
) -> None:
    if output and len(made.files) > 1 and not output.is_dir():
        types = ", ".join(file.resource_type for file in made.files)
        raise typer.BadParameter(
            f"There is a file for each of {types}: name a folder.", param_hint="--output"
        )
    paths = []
    for file in made.files:
        name = Path(f"{export.id}.{file.resource_type}.{made.format}")
        path = output / name if output and output.is_dir() else output or name
        _downloaded(client, file, path)
        _tell_verified(f"{file.rows:,} rows of {file.resource_type}", file)
        paths.append(str(path))
    if options.json:
        as_json({"export": export, "files": paths})
    else:
        for each in paths:
            data(each)


def _tell_verified(counts: str, file: Artifact | OutputFile) -> None:
    say(f"{sign('succeeded')} {counts}, {decimal(file.bytes)}, verified", "green")


def _downloaded(client: Client, file: Artifact | OutputFile, path: Path) -> None:
    with downloading(path.name) as progress:
        client.download(file, path, progress)


def what(export: Export) -> str:
    """What an export is of, in a few words."""
    if parent := export.request.get("parent"):
        return f"graph {parent}"
    items = export.request.get("export_request_parameters", [])
    return ", ".join(dict.fromkeys(str(item.get("resource_type")) for item in items))
