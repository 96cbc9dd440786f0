"""What an archived file can be made into."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from app.artifacts.shapes import Form


class Format(StrEnum):
    """What a file can be made into: Apache `parquet`, or `csv` as of RFC 4180."""

    PARQUET = "parquet"
    CSV = "csv"


MEDIA_TYPES = {
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.CSV: "text/csv; charset=utf-8",
}


class Unconvertible(Exception):
    """The file cannot be brought into the format; trying again would not help."""


@dataclass(frozen=True)
class Output:
    """One file made, with all objects of one type. `columns` are names and forms, in order."""

    resource_type: str
    path: Path
    rows: int
    bytes: int
    sha256: str
    media_type: str
    columns: tuple[tuple[str, Form], ...]
