"""Tables of Parquet files, by whichever package is there."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from asana_exports_client.errors import MissingExtra
from asana_exports_client.models import OutputFile

Read = Callable[[Path | None], Any]


def chosen(files: Sequence[OutputFile], resource_type: str | None) -> OutputFile | None:
    """The file of a resource type; None where the export is empty.

    Raises `ValueError` where it has no such type, or several of which none is named.
    """
    by_type = {file.resource_type: file for file in files}
    if resource_type is None and len(files) <= 1:
        return files[0] if files else None
    if resource_type in by_type:
        return by_type[resource_type]
    if resource_type and not files:
        return None
    raise ValueError(f"Name one of the resource types in it: {', '.join(sorted(by_type))}.")


def arrow() -> Read:
    """Reads a table of pyarrow; an empty one where there is no file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("to_arrow()", "arrow") from None
    return lambda path: parquet.read_table(path) if path else pyarrow.table({})


def arrow_batches(rows: int) -> Callable[[Path | None], Iterator[Any]]:
    """Reads record batches of pyarrow."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("batches()", "arrow") from None

    def batches(path: Path | None) -> Iterator[Any]:
        if path:
            with parquet.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=rows)

    return batches


def polars() -> Read:
    """Reads a data frame of polars."""
    try:
        import polars
    except ImportError:
        raise MissingExtra("to_polars()", "polars") from None
    return lambda path: polars.read_parquet(path) if path else polars.DataFrame()


def pandas() -> Read:
    """Reads a data frame of pandas, by pyarrow."""
    try:
        import pandas
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtra("to_pandas()", "pandas") from None
    return lambda path: pandas.read_parquet(path, engine="pyarrow") if path else pandas.DataFrame()
