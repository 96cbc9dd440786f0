"""Other views of an archived file, made while it is sent: unpacked, or packed again."""

import asyncio
from collections.abc import AsyncIterator

from isal import isal_zlib
from starlette.concurrency import iterate_in_threadpool

from app.artifacts.gunzip import GZIP, Gunzip


async def unpacked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What is in a verified gzip file, a bounded step at a time."""
    gunzip = Gunzip()
    async for piece in pieces:
        async for step in iterate_in_threadpool(gunzip.steps(piece)):
            yield step
    async for step in iterate_in_threadpool(gunzip.rest()):
        yield step


async def packed(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A gzip file of them (RFC 1952)."""
    member = isal_zlib.compressobj(isal_zlib.ISAL_DEFAULT_COMPRESSION, isal_zlib.DEFLATED, GZIP)
    async for piece in pieces:
        if step := await asyncio.to_thread(member.compress, piece):
            yield step
    yield member.flush()
