"""The lines of a gzip file, checked as they are read."""

import hashlib
import zlib
from collections.abc import Iterator

from asana_exports_client.errors import Damaged
from asana_exports_client.models import Artifact

GZIP = 16 + zlib.MAX_WBITS
STEP = 1 << 20


class Lines:
    """Fed with a file piece by piece; memory is bounded by the longest line.

    Of an `artifact` length, SHA-256 and count of lines are compared in the end; where there is none, as for a
    file without duplicates, gzip's own checksum has to do.
    """

    def __init__(self, artifact: Artifact | None) -> None:
        self._artifact = artifact
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._member = zlib.decompressobj(GZIP)
        self._rest = b""
        self.count = 0

    def of(self, piece: bytes) -> Iterator[bytes]:
        """The lines that end in the next piece; to be taken to their end. Raises `Damaged`."""
        self._hash.update(piece)
        self._bytes += len(piece)
        while piece:
            if self._member.eof:
                self._member = zlib.decompressobj(GZIP)
            try:
                unpacked = self._member.decompress(piece, STEP)
            except zlib.error as error:
                raise Damaged(f"The file is not intact: {error}.") from None
            yield from self._split(unpacked)
            piece = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def end(self) -> Iterator[bytes]:
        """The last line, once all else is found to be right. Raises `Damaged`."""
        while not self._member.eof and (more := self._member.decompress(b"", STEP)):
            yield from self._split(more)
        if not self._member.eof:
            raise Damaged(f"The file ends in the middle, after {self._bytes} bytes.")
        rest, self._rest = self._rest, b""
        last = [rest] if rest.strip() else []
        self.count += len(last)
        if self._artifact:
            found = (self._bytes, self._hash.hexdigest(), self.count)
            verified = (self._artifact.bytes, self._artifact.sha256, self._artifact.lines)
            if found != verified:
                raise Damaged(f"The file has (bytes, sha256, lines) {found} instead of {verified}.")
        yield from last

    def _split(self, unpacked: bytes) -> Iterator[bytes]:
        *lines, last = unpacked.split(b"\n")
        if not lines:
            self._rest += last
            return
        lines[0], self._rest = self._rest + lines[0], last
        for line in lines:
            if line.strip():
                self.count += 1
                yield line
