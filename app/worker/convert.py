"""Making other formats of archived files, one at a time."""

import asyncio
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from app.artifacts.apart import convert_apart
from app.artifacts.models import Artifact
from app.artifacts.outputs import Output, Unconvertible
from app.artifacts.store import NotStored, StorageFull, StoreFailed, Writer
from app.database.base import Json
from app.exports.conversions import (
    ConversionLost,
    HeldConversion,
    claim_conversion,
    conversion_failed,
    converted,
    put_back,
    source_of,
)
from app.exports.models import Run
from app.exports.requests import only_type
from app.ids import new_output_id
from app.problems import Code, Problem
from app.worker.context import Context
from app.worker.crashes import report
from app.worker.uninterrupted import uninterrupted

MOST_FAILURES = 3
LEFT_BEHIND_SECONDS = 86_400.0
PIECE = 1 << 20

log = structlog.get_logger()


async def convert_all(ctx: Context) -> None:
    """Convert what is asked for, one after the other, until nothing waits."""
    while held := await ctx.write(claim_conversion, ctx.lease.worker):
        await convert(ctx, held)


async def convert(ctx: Context, held: HeldConversion) -> None:
    """Bring a conversion to its end, or put it back: what passes by itself is waited for without end, what
    crashes is tried a few times.
    """
    try:
        if failure := await _tried(ctx, held):
            log.warning("conversion.failed", artifact=held.artifact, format=held.format, code=failure.code)
            await ctx.write(conversion_failed, held, failure)
    except ConversionLost:
        log.warning("conversion.lost", artifact=held.artifact, format=held.format)
    except (StorageFull, StoreFailed, OSError) as error:
        log.warning("conversion.waits", artifact=held.artifact, format=held.format, error=repr(error))
        await ctx.write(put_back, held, seconds=ctx.settings.backoff_max_seconds, failures=0)
    except Exception as error:
        report("conversion", error, artifact=held.artifact, format=held.format, before=held.failures)
        await ctx.write(put_back, held, seconds=ctx.backoff(held.failures), failures=1)


async def _tried(ctx: Context, held: HeldConversion) -> Problem | None:
    """One try; why there will be no files, if that is certain."""
    if held.failures >= MOST_FAILURES:
        detail = f"{held.failures} times the process or the worker has vanished."
        return Problem(Code.CONVERSION_FAILED, detail)
    source = await ctx.write(source_of, held)
    if source is None:
        return Problem(Code.ARTIFACT_EXPIRED, "The file is no longer kept.")
    try:
        await _convert_and_keep(ctx, held, *source)
    except Unconvertible as error:
        return Problem(Code.NOT_CONVERTIBLE, f"Made into {held.format}: {error}.")
    except NotStored as error:
        return Problem(Code.ARTIFACT_MISSING, f"The store has no file {error}.")
    return None


async def _convert_and_keep(ctx: Context, held: HeldConversion, artifact: Artifact, run: Run) -> None:
    settings = ctx.settings
    await asyncio.to_thread(_make_room, settings.scratch)
    with TemporaryDirectory(dir=settings.scratch) as scratch:
        source = Path(scratch) / "source"
        await _fetch(ctx, artifact.key, source)
        outputs = await convert_apart(
            source,
            Path(scratch),
            held.format,
            untyped=only_type(run.request),
            line_bytes=settings.max_line_bytes,
            memory_bytes=settings.conversion_memory_bytes,
        )
        named = f"{run.workspace}/{held.artifact}-{held.fence}"
        async with AsyncExitStack() as stack:
            writers = list[Writer]()
            for output in outputs:
                writing = ctx.store.writer(f"{named}-{output.path.name}")
                writers.append(await stack.enter_async_context(writing))
                await _copy(output.path, writers[-1])
            files = [_file(writer.key, output) for writer, output in zip(writers, outputs, strict=True)]
            await uninterrupted(_keep(ctx, held, files, writers))
    log.info("artifact.converted", artifact=held.artifact, format=held.format, files=len(files))


async def _keep(ctx: Context, held: HeldConversion, files: list[Json], writers: Sequence[Writer]) -> None:
    async with ctx.store.published(writers, unless=ConversionLost):
        await ctx.write(converted, held, files)


async def _fetch(ctx: Context, key: str, to: Path) -> None:
    stored = await ctx.store.open(key)
    with to.open("wb") as file:
        async for piece in stored.chunks():
            await asyncio.to_thread(file.write, piece)


async def _copy(path: Path, writer: Writer) -> None:
    with path.open("rb") as file:
        await writer.write_all(iter(lambda: file.read(PIECE), b""))


def _file(key: str, output: Output) -> Json:
    return {
        "id": new_output_id(),
        "key": key,
        "resource_type": output.resource_type,
        "media_type": output.media_type,
        "sha256": output.sha256,
        "bytes": output.bytes,
        "rows": output.rows,
        "columns": [{"name": name, "type": form} for name, form in output.columns],
    }


def _make_room(scratch: Path) -> None:
    """What workers that were killed have left is removed once it is certain that nobody uses it."""
    scratch.mkdir(mode=0o750, parents=True, exist_ok=True)
    for left in scratch.iterdir():
        # Others end, and remove what is theirs, meanwhile.
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - LEFT_BEHIND_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
