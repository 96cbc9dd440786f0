"""Parquet and CSV out of an archived JSON Lines file: a file for each resource type, at constant memory.

The file is read twice, first for what the columns must be able to hold, then to write them. docs/formats.md
tells what becomes of what.
"""

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, datetime
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from app.artifacts.outputs import MEDIA_TYPES, Format, Output, Unconvertible
from app.artifacts.shapes import MAP, Form, Shape

BATCH_BYTES = 16 << 20
MOST_TYPES = 100


class Table(Protocol):
    """A file being written, row by row; `pending` bytes of lines are held in memory until flushed."""

    pending: int
    rows: int

    def add(self, row: dict[str, Any], size: int) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def convert(source: Path, folder: Path, form: Format, *, untyped: str, line_bytes: int) -> list[Output]:
    """Make the files in `folder`; what a line is that does not say its resource type, `untyped` tells.

    Raises `Unconvertible`.
    """
    shapes: dict[str, Shape] = {}
    for kind, value, _ in _objects(source, untyped, line_bytes):
        if kind not in shapes and len(shapes) == MOST_TYPES:
            raise Unconvertible(f"there are more than {MOST_TYPES} resource types")
        shapes.setdefault(kind, Shape()).see(value)
    for kind, shape in shapes.items():
        if MAP in shape.kinds:
            raise Unconvertible(f"objects of the type {kind!r} have too many different fields")
        if not shape.fields:
            # A table has columns: without one, lines of `{}` would leave no trace.
            shape.see({"gid": None})
    # Named by number: a resource type is anybody's text, and no name for a file.
    paths = {kind: folder / f"{number:03}.{form}" for number, kind in enumerate(sorted(shapes))}
    with ExitStack() as closed:
        tables = {kind: TABLES[form](path, shapes[kind]) for kind, path in paths.items()}
        for table in tables.values():
            closed.callback(table.close)
        _write(_objects(source, untyped, line_bytes), tables)
    return [_output(kind, path, form, shapes[kind], tables[kind].rows) for kind, path in paths.items()]


def _write(objects: Iterator[tuple[str, dict[str, Any], int]], tables: dict[str, Table]) -> None:
    pending = 0
    for kind, value, size in objects:
        tables[kind].add(value, size)
        pending += size
        if pending > BATCH_BYTES:
            fullest = max(tables.values(), key=lambda table: table.pending)
            pending -= fullest.pending
            fullest.flush()
    for table in tables.values():
        table.flush()


def _objects(source: Path, untyped: str, line_bytes: int) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Each line's resource type, value and size. Raises `Unconvertible`."""
    try:
        with gzip.open(source) as file:
            for number in count(1):
                line = file.readline(line_bytes + 1)
                if not line:
                    return
                if len(line) > line_bytes:
                    raise Unconvertible(f"line {number} is longer than {line_bytes} bytes")
                if not line.isspace():
                    value = _object(line, number)
                    kind = value.get("resource_type")
                    yield _without_nul(kind) if isinstance(kind, str) else untyped, value, len(line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Unconvertible(f"the file is damaged: {error}") from None


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        value = READER.decode(line.decode())
        if b"\\ud" in line or b"\\uD" in line:
            # Half a character, which JSON lets pass in such an escape, can be written nowhere.
            as_json(value).encode()
    except (ValueError, RecursionError) as error:
        raise Unconvertible(f"line {number} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise Unconvertible(f"line {number} is not a JSON object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value


# The standard library's, for it alone reads whole numbers of any size exactly.
READER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)
as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _output(kind: str, path: Path, form: Format, shape: Shape, rows: int) -> Output:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    columns = tuple(
        (name, Form.JSON if form is Format.CSV and field.form in {Form.STRUCT, Form.LIST} else field.form)
        for name, field in zip(column_names(shape).values(), shape.fields.values(), strict=True)
    )
    return Output(kind, path, rows, path.stat().st_size, sha256, MEDIA_TYPES[form], columns)


def column_names(shape: Shape) -> dict[str, str]:
    """The column of each field: its own name, with a number where another differs only in case, since most
    readers do not tell these apart; `_` where it has none.
    """
    taken: set[str] = set()
    names = {}
    for field in shape.fields:
        name = given = _without_nul(field) or "_"
        numbers = count(2)
        while name.lower() in taken:
            name = f"{given}_{next(numbers)}"
        taken.add(name.lower())
        names[field] = name
    return names


def _without_nul(name: str) -> str:
    """PostgreSQL, which is told of these names, has no such character."""
    return name.replace("\0", "")


class ParquetTable:
    """Rows of one type on their way into a Parquet file, of which each batch becomes a row group."""

    def __init__(self, path: Path, shape: Shape) -> None:
        fields, self._convert = _struct(shape)
        self._schema = pa.schema(list(fields))
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._batch: list[dict[str, Any]] = []
        self.pending = self.rows = 0

    def add(self, row: dict[str, Any], size: int) -> None:
        self._batch.append(self._convert(row) if self._convert else row)
        self.pending += size
        self.rows += 1

    def flush(self) -> None:
        if self._batch:
            self._file.write_table(pa.Table.from_pylist(self._batch, self._schema))
        self._batch, self.pending = [], 0

    def close(self) -> None:
        self._file.close()


# None: the value goes as it is, in all its depth.
Conversion = Callable[[Any], Any] | None
SIMPLE: dict[Form, tuple[pa.DataType, Conversion]] = {
    Form.BOOLEAN: (pa.bool_(), None),
    Form.INTEGER: (pa.int64(), None),
    Form.NUMBER: (pa.float64(), None),
    Form.TEXT: (pa.string(), None),
    Form.TIMESTAMP: (pa.timestamp("us", "UTC"), datetime.fromisoformat),
    Form.DATE: (pa.date32(), date.fromisoformat),
    Form.JSON: (pa.string(), as_json),
}


def _column(shape: Shape) -> tuple[pa.DataType, Conversion]:
    match shape.form:
        case Form.STRUCT:
            return _struct(shape)
        case Form.LIST:
            return _list(shape.items or Shape())
        case simple:
            return SIMPLE[simple]


def _list(items: Shape) -> tuple[pa.DataType, Conversion]:
    kind, convert_item = _column(items)
    if convert_item is None:
        return pa.list_(kind), None
    return pa.list_(kind), lambda value: [None if item is None else convert_item(item) for item in value]


def _struct(shape: Shape) -> tuple[pa.StructType, Conversion]:
    names = column_names(shape)
    columns = {field: _column(inner) for field, inner in shape.fields.items()}
    kind = pa.struct([(names[field], column) for field, (column, _) in columns.items()])
    conversions = {field: (names[field], conversion) for field, (_, conversion) in columns.items()}
    if all((field, None) == target for field, target in conversions.items()):
        return kind, None

    def convert_struct(value: dict[str, Any]) -> dict[str, Any]:
        converted = {}
        for field, inner in value.items():
            name, conversion = conversions[field]
            converted[name] = inner if inner is None or conversion is None else conversion(inner)
        return converted

    return kind, convert_struct


class CsvTable:
    """Rows of one type on their way into a CSV file. All text is quoted; null is nothing between commas."""

    def __init__(self, path: Path, shape: Shape) -> None:
        names = column_names(shape)
        self._cells = {field: CELLS.get(inner.form, _text_of_json) for field, inner in shape.fields.items()}
        self._file = path.open("w", encoding="utf-8", newline="")
        self.pending = self.rows = 0
        self._write(map(_text, names.values()))

    def add(self, row: dict[str, Any], size: int) -> None:
        values = ((row.get(field), cell) for field, cell in self._cells.items())
        self._write("" if value is None else cell(value) for value, cell in values)
        self.pending += size
        self.rows += 1

    def flush(self) -> None:
        self._file.flush()
        self.pending = 0

    def close(self) -> None:
        self._file.close()

    def _write(self, cells: Iterator[str]) -> None:
        self._file.write(",".join(cells) + "\r\n")


def _text(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def _text_of_json(value: object) -> str:
    return _text(as_json(value))


CELLS: dict[Form, Callable[[Any], str]] = {
    Form.BOOLEAN: as_json,
    Form.INTEGER: as_json,
    Form.NUMBER: as_json,
    Form.TEXT: _text,
    Form.TIMESTAMP: _text,
    Form.DATE: _text,
}
TABLES: dict[Format, Callable[[Path, Shape], Table]] = {
    Format.PARQUET: ParquetTable,
    Format.CSV: CsvTable,
}
