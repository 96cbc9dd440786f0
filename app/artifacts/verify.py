"""Proof that a file is whole: gzip with its CRC and length (RFC 1952), and JSON Lines within."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import orjson
from isal import isal_zlib

STEP = 1 << 20
# The package declares its error as a value, not as the class it is.
DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment]
GZIP = 16 + isal_zlib.MAX_WBITS


class Corrupt(Exception):
    """The file is damaged; fetching it again may help."""


class TooLarge(Exception):
    """The file exceeds a limit of ours; it will the next time."""


@dataclass(frozen=True)
class Limits:
    """How long a line and how large the unpacked whole may be, in bytes."""

    line_bytes: int
    uncompressed_bytes: int


@dataclass(frozen=True)
class Verified:
    """What was found in a whole file; `sha256` and `bytes` are of the file as stored."""

    sha256: str
    bytes: int
    uncompressed_bytes: int
    lines: int
    by_type: dict[str, int]


class Verifier:
    """Fed with a gzip file piece by piece; memory is bounded by the longest line. It only computes."""

    def __init__(self, limits: Limits, untyped: str = "unknown") -> None:
        """`untyped` is what a line counts as that does not tell its resource type."""
        self._limits = limits
        self._untyped = untyped
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._uncompressed = 0
        self._member = isal_zlib.decompressobj(GZIP)
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._by_type: Counter[str] = Counter()

    def feed(self, piece: bytes) -> None:
        """Raises `Corrupt` or `TooLarge` as soon as either is certain."""
        self._hash.update(piece)
        self._bytes += len(piece)
        while piece:
            if self._member.eof:
                self._member = isal_zlib.decompressobj(GZIP)
            try:
                unpacked = self._member.decompress(piece, STEP)
            except DAMAGED as error:
                raise Corrupt(f"not intact gzip: {error}") from None
            self._read(unpacked)
            piece = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> Verified:
        """The findings. Raises `Corrupt` when the file ends too early."""
        while not self._member.eof and (more := self._drained()):
            self._read(more)
        if not self._member.eof:
            raise Corrupt("the file ends in the middle" if self._bytes else "the file is empty")
        if self._rest_bytes:
            self._count(b"".join(self._rest))
        return Verified(
            self._hash.hexdigest(),
            self._bytes,
            self._uncompressed,
            self._by_type.total(),
            dict(sorted(self._by_type.items())),
        )

    def _drained(self) -> bytes:
        try:
            return self._member.decompress(b"", STEP)
        except DAMAGED as error:
            raise Corrupt(f"not intact gzip: {error}") from None

    def _read(self, unpacked: bytes) -> None:
        self._uncompressed += len(unpacked)
        if self._uncompressed > self._limits.uncompressed_bytes:
            raise TooLarge(f"the file unpacks to more than {self._limits.uncompressed_bytes} bytes")
        end = unpacked.rfind(b"\n") + 1
        if end:
            self._rest.append(unpacked[:end])
            self._count(b"".join(self._rest))
            self._rest, self._rest_bytes = [], 0
        if end < len(unpacked):
            self._rest.append(unpacked[end:])
            self._rest_bytes += len(unpacked) - end
            if self._rest_bytes > self._limits.line_bytes:
                raise TooLarge(f"a line is longer than {self._limits.line_bytes} bytes")

    def _count(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if not line.strip():
                continue
            self._by_type[self._type_of(line)] += 1

    def _type_of(self, line: bytes) -> str:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Corrupt(f"line {self._by_type.total() + 1} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise Corrupt(f"line {self._by_type.total() + 1} is not a JSON object")
        kind = value.get("resource_type")
        return kind if isinstance(kind, str) else self._untyped
