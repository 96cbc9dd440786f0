"""Unpacking gzip (RFC 1952) as it comes, with an end to what a step may take."""

from collections.abc import Iterator

from isal import isal_zlib

STEP = 1 << 20
# The package declares its error as a value, not as the class it is.
DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment]
GZIP = 16 + isal_zlib.MAX_WBITS


class Gunzip:
    """What is in a file of any number of members, a bounded step at a time. Raises `DAMAGED`."""

    def __init__(self) -> None:
        self._member = isal_zlib.decompressobj(GZIP)

    @property
    def complete(self) -> bool:
        """Whether the file may end here."""
        return self._member.eof

    def steps(self, piece: bytes) -> Iterator[bytes]:
        """What comes of the next piece of the file; to be taken to its end."""
        while piece:
            if self._member.eof:
                self._member = isal_zlib.decompressobj(GZIP)
            if step := self._member.decompress(piece, STEP):
                yield step
            piece = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def rest(self) -> Iterator[bytes]:
        """What is left once the last piece was taken."""
        while not self._member.eof and (more := self._member.decompress(b"", STEP)):
            yield more
