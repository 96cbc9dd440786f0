"""The queues of workspaces."""

from typing import Annotated

import typer

from asana_exports_client.cli.screen import Column, as_json, facts, rows, say, sign
from asana_exports_client.cli.session import session
from asana_exports_client.models import Kind, Lane

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Its gid.")]
LaneKind = Annotated[
    Kind | None, typer.Option(help="Which, where resource and graph exports have a queue each.")
]
Note = Annotated[str | None, typer.Option("--note", "-m", metavar="TEXT", help="Why; kept with the event.")]

COLUMNS = (
    Column("WORKSPACE", lambda lane: lane.workspace, whole=True),
    Column("STATE", lambda lane: lane.state, whole=True),
    Column("QUEUED", lambda lane: lane.queued),
    Column("OLDEST", lambda lane: lane.oldest_queued_at),
    Column("AT ASANA", lambda lane: lane.slot and (lane.slot.phase or str(lane.slot.status))),
    Column("WAITS FOR", lambda lane: lane.wait_reason and str(lane.wait_reason)),
    Column("NEXT TRY", lambda lane: lane.next_attempt_at, from_width=100),
)


def lanes(
    ctx: typer.Context,
    workspace: Annotated[str | None, typer.Argument(metavar="[WORKSPACE]", help="Only this one.")] = None,
    kind: LaneKind = None,
) -> None:
    """Show the queues of all workspaces, or one of them."""
    options = session(ctx)
    with options.client() as client:
        if workspace:
            _tell(client.lanes.get(workspace, kind=kind), json=options.json)
            return
        found = (client.lanes.get(each.gid, kind=kind) for each in client.workspaces.list())
        rows(COLUMNS, found, json=options.json, none="You may see no workspace.")


def pause(ctx: typer.Context, workspace: Workspace, note: Note = None, kind: LaneKind = None) -> None:
    """Start no exports of a workspace; go on accepting them."""
    options = session(ctx)
    with options.client() as client:
        _changed(client.lanes.pause(workspace, note, kind=kind), json=options.json)


def drain(ctx: typer.Context, workspace: Workspace, note: Note = None, kind: LaneKind = None) -> None:
    """Accept no exports of a workspace; go on with those that are queued."""
    options = session(ctx)
    with options.client() as client:
        _changed(client.lanes.drain(workspace, note, kind=kind), json=options.json)


def resume(ctx: typer.Context, workspace: Workspace, note: Note = None, kind: LaneKind = None) -> None:
    """Start and accept exports of a workspace again."""
    options = session(ctx)
    with options.client() as client:
        _changed(client.lanes.resume(workspace, note, kind=kind), json=options.json)


def _changed(lane: Lane, *, json: bool) -> None:
    if json:
        as_json(lane)
    else:
        say(f"{sign(lane.state)} The queue of {lane.workspace} is {lane.state}; {lane.queued} wait in it.")


def _tell(lane: Lane, *, json: bool) -> None:
    if json:
        as_json(lane)
        return
    facts(
        [
            ("workspace", lane.workspace),
            ("state", lane.state),
            ("queued", lane.queued),
            ("oldest", lane.oldest_queued_at),
            ("at Asana", lane.slot and lane.slot.run),
            ("status", lane.slot and lane.slot.status),
            ("since", lane.slot and lane.slot.started_at),
            ("being fetched", lane.archiving or None),
            ("waits for", lane.wait_reason and lane.wait_reason.replace("_", " ")),
            ("waiting since", lane.waiting_since),
            ("next try", lane.next_attempt_at),
            ("refusals", lane.refusals or None),
            ("worker", lane.holder),
        ]
    )
