"""A file that is not yet whole."""

import hashlib
from collections.abc import Callable
from pathlib import Path

Progress = Callable[[int, int], object]
STEP = 1 << 20


class Part:
    """Bytes beside the path they are for, and their SHA-256; what is there from before counts."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder; give the path of a file.")
        self._path = path.with_name(f"{path.name}.part")
        self._file = self._path.open("a+b")
        self._file.seek(0)
        self._hash = hashlib.sha256()
        self.bytes = 0
        while piece := self._file.read(STEP):
            self._count(piece)

    def add(self, piece: bytes) -> None:
        self._file.write(piece)
        self._count(piece)

    def drop(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._hash, self.bytes = hashlib.sha256(), 0

    def is_file(self, size: int, sha256: str) -> bool:
        return (self.bytes, self._hash.hexdigest()) == (size, sha256)

    def close(self) -> None:
        """Leave what there is for the next time."""
        self._file.close()
        if not self.bytes:
            self._path.unlink(missing_ok=True)

    def become(self, path: Path) -> None:
        """Give it its name. What could not be written is raised before."""
        self._file.close()
        self._path.replace(path)

    def _count(self, piece: bytes) -> None:
        self._hash.update(piece)
        self.bytes += len(piece)
