"""What it costs to make Parquet and CSV of an archive of some size: time, and the memory of the process.

    .venv/bin/python -m benchmarks.formats 1000    # megabytes before compression

Its files are in a temporary folder (TMPDIR) and go at the end.
"""

import asyncio
import gzip
import random
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from app.artifacts.apart import convert_apart
from app.artifacts.outputs import Format

POOL = 20_000
WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "größer", "漢字", "résumé"]


def main(megabytes: int) -> None:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.jsonl.gz"
        lines = written(source, megabytes * 2**20)
        print(f"{megabytes} MB in {lines} lines, {source.stat().st_size / 2**20:.0f} MB compressed")
        for form in Format:
            asyncio.run(measured(source, form, megabytes))


async def measured(source: Path, form: Format, megabytes: int) -> None:
    began = time.perf_counter()
    made = await convert_apart(
        source, source.parent, form, untyped="task", line_bytes=2**26, memory_bytes=2**31
    )
    seconds = time.perf_counter() - began
    size = sum(output.bytes for output in made) / 2**20
    # Of the largest process so far, in kilobytes but on macOS.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )
    print(f"{form}: {seconds:.0f} s, {peak:.0f} MB of memory, {size:.0f} MB made")


def written(source: Path, size: int) -> int:
    dice = random.Random(7)
    pool = [orjson.dumps(task(dice), option=orjson.OPT_APPEND_NEWLINE) for _ in range(POOL)]
    lines = 0
    with gzip.open(source, "wb", compresslevel=1) as file:
        while size > 0:
            size -= file.write(dice.choice(pool))
            lines += 1
    return lines


def task(dice: random.Random) -> dict[str, Any]:
    return named(dice, "task") | {
        "created_at": moment(dice),
        "completed_at": dice.choice([None, moment(dice)]),
        "due_on": dice.choice([None, "2026-01-02"]),
        "completed": dice.random() < 0.5,
        "assignee": dice.choice([None, named(dice, "user")]),
        "custom_fields": [custom_field(dice) for _ in range(dice.randint(0, 6))],
        "followers": [named(dice, "user") for _ in range(dice.randint(0, 4))],
        "memberships": [{"project": named(dice, "project"), "section": named(dice, "section")}],
        "notes": words(dice, dice.randint(0, 120)),
        "num_likes": dice.randint(0, 9),
        "parent": None,
        "tags": [],
    }


def custom_field(dice: random.Random) -> dict[str, Any]:
    values: list[dict[str, Any]] = [
        {"type": "text", "text_value": words(dice, 4)},
        {"type": "number", "number_value": dice.choice([None, 3, 2.5]), "precision": 2},
        {
            "type": "enum",
            "enum_value": named(dice, "enum_option"),
            "enum_options": [named(dice, "enum_option")],
        },
    ]
    return named(dice, "custom_field") | dice.choice(values)


def named(dice: random.Random, kind: str) -> dict[str, Any]:
    return {"gid": str(dice.randint(10**15, 10**16)), "resource_type": kind, "name": words(dice, 3)}


def words(dice: random.Random, number: int) -> str:
    return " ".join(dice.choices(WORDS, k=number))


def moment(dice: random.Random) -> str:
    return f"20{dice.randint(10, 26)}-01-{dice.randint(10, 28)}T03:04:05.{dice.randint(100, 999)}Z"


if __name__ == "__main__":
    main(int(sys.argv[1]))
