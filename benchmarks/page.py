"""The results as a page of the documentation, with a plot of their ratios."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from math import log10
from pathlib import Path

import psutil

from benchmarks.result import Result

DOCS = Path(__file__).parents[1] / "docs"
PAGE = Path(__file__).with_name("page.md").read_text()
ROW, WIDTH, LEFT = 22, 900, 520
NUMBERS = (0.1, 1, 10, 100)


def write_page(results: Sequence[Result]) -> None:
    page = PAGE.format(
        rows="\n".join(map(str, results)),
        day=datetime.now(UTC).date(),
        cores=os.cpu_count(),
        processor=_processor(),
        memory=round(psutil.virtual_memory().total / 2**30),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
    )
    (DOCS / "benchmarks.md").write_text(page)
    (DOCS / "benchmarks.svg").write_text(plot(results))


def _processor() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(": ")[2] if names else platform.processor()


def plot(results: Sequence[Result]) -> str:
    """A bar for each, from 1 to the left or the right."""
    height = ROW * (len(results) + 2)
    drawn = [
        f'<line x1="{_x(number)}" x2="{_x(number)}" y1="0" y2="{height - ROW}" class="{_line(number)}"/>'
        f'<text x="{_x(number)}" y="{height - 6}" text-anchor="middle">{number:g}</text>'
        for number in NUMBERS
    ]
    for number, result in enumerate(results):
        y = ROW * (number + 0.5)
        begin, end = sorted((_x(1), _x(result.ratio)))
        drawn.append(
            f'<rect x="{begin:.0f}" y="{y:.0f}" width="{max(end - begin, 1):.0f}" height="{ROW - 8}" '
            f'class="{"good" if result.ratio >= 1 else "less"}"/>'
            f'<text x="{LEFT - 10}" y="{y + ROW - 11:.0f}" text-anchor="end">{_short(result.what)}</text>'
        )
    style = (
        "text{font:12px sans-serif;fill:#667}.one{stroke:#667}.other{stroke:#6673;stroke-dasharray:3}"
        ".good{fill:#0a8f7f}.less{fill:#d9822b}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<style>{style}</style>{''.join(drawn)}</svg>\n"
    )


def _line(number: float) -> str:
    return "one" if number == 1 else "other"


def _x(ratio: float) -> float:
    low, high = log10(NUMBERS[0]), log10(NUMBERS[-1])
    place = (min(max(log10(ratio), low), high) - low) / (high - low)
    return LEFT + place * (WIDTH - LEFT - 20)


def _short(what: str) -> str:
    return what if len(what) < 80 else what[:77] + "…"
