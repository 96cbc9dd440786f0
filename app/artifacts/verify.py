"""Proof that a file is whole: gzip with its CRC and length (RFC 1952), and JSON Lines within."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from app.artifacts.duplicates import Duplicates, Named
from app.artifacts.gunzip import DAMAGED, Gunzip
from app.artifacts.key_paths import UNTAKEN, KeyPaths, storable

MOST_TYPES = 1000


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
    """What was found in a whole file; `sha256` and `bytes` are of the file as stored.

    `key_paths` are by resource type, as `KeyPaths.paths` gives them.
    """

    sha256: str
    bytes: int
    uncompressed_bytes: int
    lines: int
    by_type: dict[str, int]
    duplicate_gids: int
    key_paths: dict[str, list[str] | None]


class Head(msgspec.Struct, gc=False):
    """What a line says of itself, whatever else there is in it."""

    gid: Any = None
    resource_type: Any = None


HEAD = msgspec.json.Decoder(Head)


class Verifier:
    """Fed with a gzip file piece by piece; memory is bounded by the longest line.

    `duplicates` tells, once finished, which lines repeat an object.
    """

    def __init__(self, limits: Limits, untyped: str = "unknown") -> None:
        """`untyped` is what a line counts as that does not tell its resource type."""
        self._limits = limits
        self._untyped = untyped
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._uncompressed = 0
        self._gunzip = Gunzip()
        self._rest: list[bytes] = []
        self._rest_bytes = 0
        self._lines = 0
        self._by_type: Counter[str] = Counter()
        self._key_paths: defaultdict[str, KeyPaths] = defaultdict(KeyPaths)
        self.duplicates = Duplicates()

    def feed(self, piece: bytes) -> None:
        """Raises `Corrupt` or `TooLarge` as soon as either is certain, and `StorageFull`."""
        self._hash.update(piece)
        self._bytes += len(piece)
        self._read_all(self._gunzip.steps(piece))

    def finish(self) -> Verified:
        """The findings. Raises as `feed` does, and `Corrupt` when the file ends too early."""
        self._read_all(self._gunzip.rest())
        if not self._gunzip.complete:
            raise Corrupt("the file ends in the middle" if self._bytes else "the file is empty")
        if self._rest_bytes:
            self._count(b"".join(self._rest))
        return Verified(
            self._hash.hexdigest(),
            self._bytes,
            self._uncompressed,
            self._lines,
            dict(sorted(self._by_type.items())),
            self.duplicates.find(),
            {kind: seen.paths() for kind, seen in sorted(self._key_paths.items())},
        )

    def _read_all(self, steps: Iterator[bytes]) -> None:
        try:
            for unpacked in steps:
                self._read(unpacked)
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
        named: list[Named] = []
        for line in lines.split(b"\n"):
            if not line.strip():
                continue
            kind, gid = self._look_at(line)
            if isinstance(gid, str):
                named.append((self._lines, kind, gid))
            self._by_type[kind] += 1
            self._lines += 1
        self.duplicates.add(named)
        if len(self._by_type) > MOST_TYPES:
            raise TooLarge(f"the file has more than {MOST_TYPES} resource types")

    def _look_at(self, line: bytes) -> tuple[str, object]:
        """The resource type and the gid of a line, after its keys were noted."""
        try:
            head = HEAD.decode(line)
        except UNTAKEN:
            value = self._read_in_full(line)
            head = Head(value.get("gid"), value.get("resource_type"))
        kind = storable(head.resource_type) if isinstance(head.resource_type, str) else self._untyped
        if not self._key_paths[kind].fits(line):
            self._key_paths[kind].learn(self._read_in_full(line))
        return kind, head.gid

    def _read_in_full(self, line: bytes) -> dict[str, Any]:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise Corrupt(f"line {self._lines + 1} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise Corrupt(f"line {self._lines + 1} is not a JSON object")
        return value
