"""Files as they come: gone on with where a connection breaks, and checked to their last byte."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec

from asana_exports_client._async.http import Http
from asana_exports_client._part import Part, Progress
from asana_exports_client._records import Lines
from asana_exports_client._threads import in_thread
from asana_exports_client.errors import Damaged, Unreachable
from asana_exports_client.models import Artifact, OutputFile

# Times in a row that a connection may break before a byte has come, and the pause in between, which doubles.
MOST_BREAKS = 6
FIRST_PAUSE = 0.25


class Content:
    """What the service has of files."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def download(self, file: Artifact | OutputFile, path: Path, progress: Progress | None) -> Path:
        """Write a file to a path. Raises `Damaged`, and what `Http.stream` raises."""
        part = await in_thread(Part, path)
        try:
            # What is there from before may be of another file: then once more from the start.
            for _ in range(2 if part.bytes else 1):
                if part.bytes > file.bytes:
                    part.drop()
                await self._fill(part, file, progress)
                if part.is_file(file.bytes, file.sha256):
                    part.become(path)
                    return path
                found = part.bytes
                part.drop()
        finally:
            part.close()
        raise Damaged(f"{found} bytes came that are not the {file.bytes} with the SHA-256 {file.sha256}.")

    async def _fill(self, part: Part, file: Artifact | OutputFile, progress: Progress | None) -> None:
        if progress:
            progress(part.bytes, file.bytes)
        if part.bytes == file.bytes:
            return
        async for piece in self.pieces(file, part.bytes):
            part.add(piece)
            if progress:
                progress(part.bytes, file.bytes)

    async def records(self, file: Artifact | OutputFile, type: Any, *, dedupe: bool) -> AsyncIterator[Any]:  # noqa: A002
        """The objects on the lines of a file, each as that type."""
        if not isinstance(file, Artifact):
            raise TypeError("Only the file that Asana gave has records; use to_arrow() for other formats.")
        decode = msgspec.json.Decoder(type).decode
        lines = Lines(None if dedupe else file)
        async for piece in self.pieces(file, dedupe=dedupe):
            for line in lines.of(piece):
                yield decode(line)
        for line in lines.end():
            yield decode(line)

    async def pieces(
        self, file: Artifact | OutputFile, start: int = 0, *, dedupe: bool = False
    ) -> AsyncIterator[bytes]:
        """The bytes of a file from there on, whatever breaks meanwhile."""
        query = {"dedupe": "gid"} if dedupe else None
        at, breaks = start, 0
        while True:
            try:
                async with self._http.stream(file.url, query=query, headers=_from(at, file)) as response:
                    # Where it has no parts, the whole comes again.
                    passed = at if response.status_code == httpx.codes.OK else 0
                    async for piece in response.aiter_raw():
                        new, passed = piece[passed:], max(passed - len(piece), 0)
                        if new:
                            at, breaks = at + len(new), 0
                            yield new
                    return
            except httpx.TransportError as error:
                breaks += 1
                if breaks == MOST_BREAKS:
                    raise Unreachable(f"The download breaks off at byte {at}: {error}") from error
                await anyio.sleep(FIRST_PAUSE * 2**breaks)


def _from(at: int, file: Artifact | OutputFile) -> dict[str, str]:
    whole = {"Accept": "*/*", "Accept-Encoding": "identity"}
    return whole | ({"Range": f"bytes={at}-", "If-Range": f'"sha256-{file.sha256}"'} if at else {})
