"""What is typed for times, names and secrets, as values."""

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from getpass import getpass

import typer

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN = re.compile(r"([0-9]+)([smhd]?)")


def seconds(text: str) -> int:
    """`90`, `90s`, `15m`, `2h` or `1d` in seconds."""
    if not (found := SPAN.fullmatch(text.strip())):
        raise typer.BadParameter(f"{text!r} is no time: say 90, 90s, 15m, 2h or 1d.")
    return int(found[1]) * SECONDS[found[2] or "s"]


def moment(text: str, ago: int = 1) -> datetime:
    """A date or time of ISO 8601, in UTC where it names no zone; or `2h`, which is so long ago."""
    if SPAN.fullmatch(text):
        return datetime.now(UTC) - ago * timedelta(seconds=seconds(text))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no moment: say 2026-01-31, 2026-01-31T09:00:00+01:00 or 2h."
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def moment_to_come(text: str) -> datetime:
    """As `moment`; `2h` is in so long."""
    return moment(text, ago=-1)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Each `name=value`."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise typer.BadParameter(f"{text!r} is no label: say name=value.")
        found[name] = value
    return found


def names(texts: Sequence[str]) -> list[str]:
    """Each of several that are separated by commas, or given one by one."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def secret(name: str) -> str:
    """Asked for without being shown, or a line of standard input: an option could be read by others."""
    if sys.stdin.isatty():
        given = getpass(f"{name} (is not shown): ", stream=sys.stderr)
    else:
        given = sys.stdin.readline()
    if not given.strip():
        raise typer.BadParameter(f"No {name} was given on standard input.")
    return given.strip()
