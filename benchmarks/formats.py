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

import orjson

from app.artifacts.apart import convert_apart
from app.artifacts.outputs import Format
from benchmarks.tasks import POOL, task


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


if __name__ == "__main__":
    main(int(sys.argv[1]))
