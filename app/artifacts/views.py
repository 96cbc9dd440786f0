"""Other views of an archived file, made while it is sent: unpacked, or packed again."""

import asyncio
from collections.abc import AsyncIterator

from isal import isal_zlib

from app.artifacts.verify import GZIP, STEP


async def unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What is in a verified gzip file, a bounded step at a time."""
    member = isal_zlib.decompressobj(GZIP)
    async for piece in pieces:
        rest = piece
        while rest:
            if member.eof:
                member = isal_zlib.decompressobj(GZIP)
            step = await asyncio.to_thread(member.decompress, rest, STEP)
            rest = member.unused_data if member.eof else member.unconsumed_tail
            if step:
                yield step
    while not member.eof and (step := await asyncio.to_thread(member.decompress, b"", STEP)):
        yield step


async def packed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A gzip file of them (RFC 1952)."""
    member = isal_zlib.compressobj(isal_zlib.ISAL_DEFAULT_COMPRESSION, isal_zlib.DEFLATED, GZIP)
    async for piece in pieces:
        if step := await asyncio.to_thread(member.compress, piece):
            yield step
    yield member.flush()
