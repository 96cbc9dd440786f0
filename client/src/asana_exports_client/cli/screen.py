"""What is seen: data on standard output, everything else on standard error."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

# A symbol beside each colour, for those who do not see it, and where there is none.
SIGNS = {
    **dict.fromkeys(["succeeded", "delivered", "open", "available", "valid"], ("✓", "green")),
    **dict.fromkeys(["failed", "revoked", "expired", "deleted", "invalid"], ("✗", "red")),
    **dict.fromkeys(["canceled"], ("○", "dim")),
    **dict.fromkeys(["queued", "pending"], ("•", "cyan")),
    **dict.fromkeys(["running", "archiving"], ("▶", "blue")),
    **dict.fromkeys(["canceling", "paused", "draining", "disabled", "expiring"], ("‖", "yellow")),
}
UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
OLD = 30 * 86400


@cache
def out() -> Console:
    """Where data go."""
    return Console(highlight=False)


@cache
def err() -> Console:
    """Where messages, progress and errors go."""
    return Console(stderr=True, highlight=False)


def say(words: str, style: str = "") -> None:
    """A line for a person, whatever characters are in it."""
    err().print(Text(words, style), soft_wrap=True)


def hint(words: str) -> None:
    """What one may do next, for a person who looks on."""
    if err().is_terminal and out().is_terminal:
        say(words, "dim")


def data(text: str) -> None:
    """A line of data."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def as_json(thing: Any) -> None:
    """A JSON document on a line of its own."""
    data(msgspec.json.encode(thing).decode())


def sign(word: str) -> str:
    """The symbol of a status."""
    return SIGNS.get(word, ("·", ""))[0]


def status(word: str) -> Text:
    """A status with its symbol and colour."""
    symbol, colour = SIGNS.get(word, ("·", ""))
    return Text(f"{symbol} {word}", colour)


@dataclass(frozen=True)
class Column:
    """One of a table; it is left out where there are fewer characters to a line than `from_width`."""

    title: str
    of: Callable[[Any], Any]
    from_width: int = 0
    whole: bool = False
    """Never cut."""


def rows(columns: Sequence[Column], items: Iterable[T], *, json: bool, none: str) -> None:
    """Things one below the other: aligned for a person, values between tabs in a pipe, or JSON lines."""
    if json:
        for item in items:
            as_json(item)
    elif out().is_terminal:
        _table(columns, list(items), none)
    else:
        for item in items:
            data("\t".join(plain(column.of(item)) for column in columns))


def _table(columns: Sequence[Column], items: Sequence[Any], none: str) -> None:
    if not items:
        say(none, "dim")
        return
    width = out().width
    shown = [column for column in columns if column.from_width <= width]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in shown:
        whole = column.whole
        table.add_column(column.title, no_wrap=True, overflow="fold" if whole else "ellipsis")
        if whole:
            table.columns[-1].min_width = max(human(column.of(item)).cell_len for item in items)
    for item in items:
        table.add_row(*(human(column.of(item)) for column in shown))
    out().print(table)


def facts(pairs: Sequence[tuple[str, Any]]) -> None:
    """One thing, a line for each of its sides; empty ones are left out."""
    told = [(name, value) for name, value in pairs if value not in (None, "", [], {})]
    if not out().is_terminal:
        for name, value in told:
            data(f"{name}\t{plain(value)}")
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in told:
        table.add_row(name, human(value))
    out().print(table)


def plain(value: Any) -> str:
    """A value for programs."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case dict():
            return ",".join(f"{name}={plain(each)}" for name, each in value.items())
        case list() | tuple():
            return ",".join(map(plain, value))
        case _:
            return " ".join(str(value).split())


def human(value: Any) -> Text:
    """A value for a person."""
    match value:
        case datetime():
            return Text(ago(value))
        case StrEnum() if value in SIGNS:
            return status(value)
        case dict():
            return Text(", ".join(f"{name} {human(each)}" for name, each in value.items()))
        case list() | tuple():
            return Text(", ".join(str(human(each)) for each in value))
        case bool():
            return Text("yes" if value else "no")
        case int():
            return Text(f"{value:,}")
        case _:
            return Text(plain(value))


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, or in how long; a date where that is far away."""
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if abs(seconds) > OLD:
        return moment.astimezone().strftime("%Y-%m-%d")
    if abs(seconds) < 1:
        return "now"
    unit, length = _unit(abs(seconds))
    whole = f"{abs(seconds) // length:.0f} {unit}"
    return f"{whole} ago" if seconds > 0 else f"in {whole}"


def clock(moment: datetime) -> str:
    """The time by the clock on the wall, with the day where it is not today."""
    local = moment.astimezone()
    today = local.date() == datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M")


def span(seconds: float) -> str:
    """So much time, to two figures where there are more."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    unit, length = _unit(seconds)
    figures = 1 if seconds < 10 * length else 0
    return f"{seconds / length:.{figures}f} {unit}"


def _unit(seconds: float) -> tuple[str, int]:
    """The greatest of which there is one."""
    return next((each for each in UNITS if seconds >= each[1]), UNITS[-1])
