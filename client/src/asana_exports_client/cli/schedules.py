"""Exports by the clock."""

from typing import Annotated, Any

import typer

from asana_exports_client.cli.asking import Asked, asking
from asana_exports_client.cli.lanes import Note
from asana_exports_client.cli.screen import Column, as_json, data, facts, hint, human, rows, say, sign
from asana_exports_client.cli.session import Command, session
from asana_exports_client.cli.values import SPAN, moment, seconds
from asana_exports_client.models import (
    CatchUp,
    PreviewSlot,
    Relative,
    Schedule,
    ScheduleCreate,
    ScheduledGraphExport,
    ScheduledResourceExport,
    Since,
)

LAST_SUCCESS = "last-success"
ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its id, sch_….")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many.")]

schedules = typer.Typer(no_args_is_help=True, help="Exports by the clock.")

COLUMNS = (
    Column("ID", lambda schedule: schedule.id, whole=True),
    Column("NAME", lambda schedule: schedule.name),
    Column("CRON", lambda schedule: schedule.cron, whole=True),
    Column("ZONE", lambda schedule: schedule.timezone, from_width=110),
    Column("NEXT", lambda schedule: "paused" if schedule.paused_at else schedule.next_at),
    Column("SKIPS", lambda schedule: schedule.skips or "", from_width=100),
)
SLOTS = (
    Column("LOCAL TIME", lambda slot: slot.local.isoformat(sep=" "), whole=True),
    Column("UTC", lambda slot: slot.slot),
)


@schedules.command("ls", cls=Command)
def list_schedules(ctx: typer.Context) -> None:
    """List your schedules."""
    options = session(ctx)
    with options.client() as client:
        rows(COLUMNS, client.schedules.list(), json=options.json, none="You have no schedules.")


@schedules.command("show", cls=Command)
def show_schedule(ctx: typer.Context, schedule: ScheduleId) -> None:
    """Show a schedule."""
    options = session(ctx)
    with options.client() as client:
        _tell(client.schedules.get(schedule), json=options.json)


@schedules.command("create", cls=Command)
@asking
def create_schedule(
    ctx: typer.Context,
    asked: Asked,
    name: Annotated[str, typer.Argument(help="Yours.")],
    cron: Annotated[str, typer.Option("--cron", metavar="CRON", help="Such as '0 3 * * *'.")],
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Such as Europe/Berlin.")] = "UTC",
    jitter: Annotated[str, typer.Option(metavar="TIME", help="Later than that by so much at most.")] = "0",
    catch_up: Annotated[CatchUp, typer.Option(help="What becomes of slots that were missed.")] = CatchUp.SKIP,
    overlap: Annotated[
        str, typer.Option(metavar="TIME", help="How much earlier than the last success to begin.")
    ] = "15m",
    first: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From when, before the first success; else everything.")
    ] = None,
    deliver_within: Annotated[
        str | None, typer.Option(metavar="TIME", help="Needed so long after its slot.")
    ] = None,
    note: Note = None,
) -> None:
    """Have an export made by the clock; prints the schedule's id.

    Filters by time may move: `--modified-after last-success` has what changed since then, 24h what did in the
    24 hours before the slot.
    """

    def moving(text: str) -> Any:
        if text == LAST_SUCCESS:
            return Since(since="last_success", overlap=overlap, first=moment(first) if first else None)
        return Relative(relative=f"-{seconds(text)}s") if SPAN.fullmatch(text) else moment(text)

    common: dict[str, Any] = {"workspace": asked.workspace, **asked.options}
    if deliver_within:
        common["deliver_within"] = seconds(deliver_within)
    export = (
        ScheduledGraphExport(parent=asked.parent, **common)
        if asked.parent
        else ScheduledResourceExport(export_request_parameters=asked.items(moving), **common)
    )
    wanted = ScheduleCreate(
        name=name,
        cron=cron,
        timezone=timezone,
        jitter=seconds(jitter),
        catch_up=catch_up,
        export=export,
        note=note,
    )
    options = session(ctx)
    with options.client() as client:
        made = client.schedules.create(wanted)
    if options.json:
        as_json(made)
        return
    data(made.id)
    say(f"{sign('succeeded')} {made.name}: next {human(made.next_at)}", "green")
    hint(f"asana-exports schedules preview {made.id}")


@schedules.command("preview", cls=Command)
def preview(
    ctx: typer.Context,
    schedule: Annotated[str | None, typer.Argument(metavar="[SCHEDULE]", help="Its id, sch_….")] = None,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="CRON", help="Or of this, which is no schedule yet.")
    ] = None,
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of --cron.")] = "UTC",
    count: Count = 10,
) -> None:
    """Show the next slots of a schedule, or of a cron expression."""
    if (schedule is None) == (cron is None):
        raise typer.BadParameter("Name either a schedule or --cron.", param_hint="SCHEDULE")
    options = session(ctx)
    with options.client() as client:
        slots: list[PreviewSlot] = (
            client.schedules.preview_cron(cron, timezone, count)
            if cron
            else client.schedules.preview(schedule or "", count)
        )
        rows(SLOTS, slots, json=options.json, none="It has no slots to come.")


@schedules.command("pause", cls=Command)
def pause_schedule(ctx: typer.Context, schedule: ScheduleId, note: Note = None) -> None:
    """Ask for nothing from now on."""
    options = session(ctx)
    with options.client() as client:
        _tell(client.schedules.pause(schedule, note), json=options.json)


@schedules.command("resume", cls=Command)
def resume_schedule(ctx: typer.Context, schedule: ScheduleId, note: Note = None) -> None:
    """End a pause."""
    options = session(ctx)
    with options.client() as client:
        _tell(client.schedules.resume(schedule, note), json=options.json)


@schedules.command("rm", cls=Command)
def remove_schedule(ctx: typer.Context, schedule: ScheduleId, note: Note = None) -> None:
    """Take a schedule away; its exports stay."""
    with session(ctx).client() as client:
        client.schedules.delete(schedule, note)
    say(f"{sign('succeeded')} The schedule is gone; its exports stay.", "green")


def _tell(schedule: Schedule, *, json: bool) -> None:
    if json:
        as_json(schedule)
        return
    facts(
        [
            ("id", schedule.id),
            ("name", schedule.name),
            ("cron", f"{schedule.cron} {schedule.timezone}"),
            ("next", schedule.next_at),
            ("paused", schedule.paused_at),
            ("has data up to", schedule.watermark),
            ("last export", schedule.last_export),
            ("skipped in a row", schedule.skips or None),
            ("because of", schedule.skip_reason and schedule.skip_reason.replace("_", " ")),
            ("workspace", schedule.export.get("workspace")),
            ("made by", schedule.created_by),
        ]
    )
