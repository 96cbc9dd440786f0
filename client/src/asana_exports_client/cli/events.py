"""What happened, and what happens."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, TypedDict

import typer
from rich.text import Text

from asana_exports_client.cli.screen import as_json, clock, data, out, plain
from asana_exports_client.cli.session import session
from asana_exports_client.models import FeedEvent


class Wanted(TypedDict):
    """What to tell of."""

    export: str | None
    workspace: str | None
    types: Sequence[str]


def events(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    after: Annotated[
        str | None,
        typer.Option(metavar="CURSOR", help="What follows it; `latest` for what happens from now on."),
    ] = None,
    export: Annotated[str | None, typer.Option(metavar="ID", help="Of this export.")] = None,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", metavar="GID")] = None,
    type_: Annotated[
        list[str] | None, typer.Option("--type", "-t", metavar="TYPE", help="Such as export.failed; repeat.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="End after so many.")] = None,
) -> None:
    """Tell what happened, in order; with -f what happens from now on.

    With --json each has its `cursor`: give the last one to --after, to go on from there later.
    """
    options = session(ctx)
    about = Wanted(export=export, workspace=workspace, types=type_ or ())
    with options.client() as client:
        if follow:
            # Asked for first: who cannot be reached, or may not, is told so at once.
            begin = after or client.events.page("latest", page_size=1).cursor
            found = client.events.follow(begin, **about)
        else:
            found = client.events.list(after, **about)
        for event in islice(found, limit):
            as_json(event) if options.json else _tell(event)


def _tell(event: FeedEvent) -> None:
    if out().is_terminal:
        line = Text.assemble((clock(event.timestamp), "dim"), f"  {event.type:<24}  {event.data.id or ''}")
        out().print(line, soft_wrap=True)
    else:
        data("\t".join(map(plain, (event.timestamp, event.type, event.workspace, event.data.id))))
