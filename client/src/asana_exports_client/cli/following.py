"""An export on its way, as it is seen: a live line for a person, a line for each change elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text

from asana_exports_client._outcome import ENDED
from asana_exports_client._sync.client import Client
from asana_exports_client.cli.screen import clock, err, say, sign, span
from asana_exports_client.models import Eta, Export, Status

# An estimate that is nearly used up says that it ends soon, not that it has ended.
MOST = 0.97


def followed(client: Client, export: Export, timeout: float | None = None) -> Iterator[Export]:
    """The export at each change until it has ended, shown meanwhile. Raises `TimeoutError`."""
    if err().is_terminal:
        with Progress(
            SpinnerColumn(style="blue"),
            TextColumn("{task.description:<10}", style="blue"),
            ExpectedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
            console=err(),
            transient=True,
        ) as live:
            yield from _lively(live, client.changes(export, timeout))
    else:
        for now in client.changes(export, timeout):
            say(f"{now.id} {now.status}{': ' if note_on(now) else ''}{note_on(now)}")
            yield now


def _lively(live: Progress, changes: Iterator[Export]) -> Iterator[Export]:
    """The phase that lasts on a line that moves, those before it above."""
    phase: Status | None = None
    line: TaskID | None = None
    for now in changes:
        if now.status != phase:
            if line is not None:
                _leave(live, line, now.status)
            phase, line = now.status, None
            if phase not in ENDED:
                line = live.add_task(phase, total=None, note="", expected=None)
        if line is not None:
            live.update(line, note=note_on(now), expected=expected(now))
        yield now


def _leave(live: Progress, line: TaskID, to: Status) -> None:
    """The line of a phase that is over no longer moves."""
    [over] = [task for task in live.tasks if task.id == line]
    live.remove_task(line)
    lasted = span(over.elapsed or 0)
    done = Text(sign(to), "red") if to in {Status.FAILED, Status.CANCELED} else Text("✓", "green")
    live.console.print(Text.assemble(done, f" {over.description:<10}", (lasted, "dim")))


class ExpectedColumn(ProgressColumn):
    """How much of the estimated time is over; a pulse where there is no estimate."""

    def render(self, task: Task) -> ProgressBar:
        until: tuple[datetime, datetime] | None = task.fields.get("expected")
        if until is None:
            return ProgressBar(total=None, width=20, pulse=True, animation_time=task.get_time())
        begun, end = until
        share = (datetime.now(UTC) - begun) / max(end - begun, datetime.resolution)
        return ProgressBar(total=1, completed=min(max(share, 0), MOST), width=20)


def expected(export: Export) -> tuple[datetime, datetime] | None:
    """Between which moments its present phase is expected to last."""
    if export.status == Status.RUNNING and export.run.eta and export.started_at:
        return export.started_at, export.run.eta.finish_p50
    if export.status == Status.QUEUED and export.queue and export.queue.eta and export.queue.eta.start_p50:
        return export.created_at, export.queue.eta.start_p50
    return None


def note_on(export: Export) -> str:
    """What there is to say of where it stands: its place, why it waits, when it will be there."""
    said: list[str] = []
    if export.queue:
        said.append("next" if export.queue.position == 1 else f"{export.queue.ahead} ahead")
    if export.wait_reason and not (export.queue and export.queue.ahead):
        said.append(export.wait_reason.replace("_", " "))
    if export.status == Status.RUNNING and export.run.phase:
        said.append(export.run.phase.replace("_", " "))
    if export.run.attempt > 1:
        said.append(f"attempt {export.run.attempt}")
    said.extend(_estimate(export.queue.eta if export.queue else export.run.eta))
    return ", ".join(said)


def _estimate(eta: Eta | None) -> list[str]:
    if eta is None:
        return []
    starts = [f"starts about {clock(eta.start_p50)}"] if eta.start_p50 else []
    return [*starts, f"done by {clock(eta.finish_p90)}"]


@contextmanager
def downloading(name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how far a download is, for as long as the block lasts."""
    if not err().is_terminal:
        yield lambda _there, _all: None
        return
    with Progress(
        TextColumn(f"{sign('running')} {{task.description}}", style="blue"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err(),
        transient=True,
    ) as live:
        line = live.add_task(name)
        yield lambda there, everything: live.update(line, completed=there, total=everything)
