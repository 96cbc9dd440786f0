"""Lines of a file that repeat an object: found exactly, kept small, and left out of a view of the file.

A resource export with several items of one type may give an object once per item. A line is named by its
ordinal: its number among the lines that are not blank, from 0.
"""

import sqlite3
import weakref
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

from app.artifacts.gunzip import GZIP
from app.artifacts.store import StorageFull

MEMORY_BYTES = 16 << 20
AT_ONCE = 4096

Named = tuple[int, str, str]
"""The ordinal of a line, and the resource type and gid of its object."""

# Beyond so much memory SQLite puts the rows, and sorts them, in a temporary file that has no name.
OPEN = """
    PRAGMA cache_size = -{kibibytes};
    PRAGMA temp_store = FILE;
    PRAGMA journal_mode = OFF;
    BEGIN;
    CREATE TABLE line (ordinal INTEGER PRIMARY KEY, type TEXT, gid TEXT);
    CREATE TABLE repeated (ordinal INTEGER PRIMARY KEY);
"""
FIND = """
    INSERT INTO repeated SELECT ordinal
    FROM (SELECT ordinal, row_number() OVER (PARTITION BY gid, type ORDER BY ordinal) AS nth FROM line)
    WHERE nth > 1 ORDER BY ordinal
"""


class Duplicates:
    """Told of every line that has a gid, it finds those whose object has been on a line before.

    Memory is bounded however many lines there are; what goes beyond is kept in the folder of `SQLITE_TMPDIR`
    or `TMPDIR`. Raises `StorageFull` where there is no room.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._rows = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._rows.close)
        with _storage_full():
            self._rows.executescript(OPEN.format(kibibytes=memory_bytes >> 10 or 1))

    def add(self, lines: Iterable[Named]) -> None:
        """Each ordinal once, in any order."""
        with _storage_full():
            self._rows.executemany("INSERT INTO line VALUES (?, ?, ?)", lines)

    def find(self) -> int:
        """How many lines repeat an object; to be asked once, after the last line."""
        with _storage_full():
            return self._rows.execute(FIND).rowcount

    def ordinals(self) -> Iterator[int]:
        """The lines that `find` has found, ascending."""
        with _storage_full():
            for (ordinal,) in self._rows.execute("SELECT ordinal FROM repeated ORDER BY ordinal"):
                yield ordinal


def packed(ordinals: Iterable[int]) -> Iterator[bytes]:
    """Ordinals as a gzip file with one number a line, piece by piece."""
    compressor, left = zlib.compressobj(wbits=GZIP), iter(ordinals)
    while some := list(islice(left, AT_ONCE)):
        if piece := compressor.compress("".join(f"{ordinal}\n" for ordinal in some).encode()):
            yield piece
    yield compressor.flush()


async def unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[int]:
    """The ordinals of a file that `packed` has made. Raises `ValueError` for a part of one."""
    decompressor, rest = zlib.decompressobj(GZIP), b""
    async for piece in pieces:
        *lines, rest = (rest + decompressor.decompress(piece)).split(b"\n")
        for line in lines:
            yield int(line)
    if not decompressor.eof:
        raise ValueError("the list of duplicates ends too early")


async def without(chunks: AsyncIterator[bytes], ordinals: AsyncIterator[int]) -> AsyncIterator[bytes]:
    """The content of a file, given in chunks that end anywhere, without the lines of ascending ordinals."""
    number, unwanted = 0, await anext(ordinals, None)
    async for block in _of_whole_lines(chunks):
        kept = []
        for line in block.split(b"\n"):
            is_blank = not line.strip()
            if is_blank or number != unwanted:
                kept.append(line)
            else:
                unwanted = await anext(ordinals, None)
            number += not is_blank
        yield b"\n".join(kept)


async def _of_whole_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    begun: list[bytes] = []
    async for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join([*begun, chunk[:end]])
            begun = []
        begun.append(chunk[end:])
    yield b"".join(begun)


@contextmanager
def _storage_full() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        # Quotas show as the second; the low byte is the kind of error.
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            raise StorageFull(f"the folder of TMPDIR: {error}") from error
        raise
