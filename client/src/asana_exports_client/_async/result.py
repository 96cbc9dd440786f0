"""The data of an export that has succeeded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar, overload

from asana_exports_client import _tables
from asana_exports_client._async.artifacts import Artifacts
from asana_exports_client._async.content import Content
from asana_exports_client._outcome import artifact_of
from asana_exports_client._part import Progress
from asana_exports_client._threads import in_thread
from asana_exports_client.models import Export, Format

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

T = TypeVar("T")


class Result:
    """What an export has brought.

    Tables are made of the Parquet that the service makes of the file, whose columns follow from all lines; a
    `resource_type` says which, where there are several. Each raises `MissingExtra` without its package.
    """

    def __init__(self, export: Export, content: Content, artifacts: Artifacts) -> None:
        self.export = export
        self._artifact = artifact_of(export)
        self._content = content
        self._artifacts = artifacts

    @property
    def types(self) -> dict[str, int]:
        """How many objects there are, by resource type."""
        return self._artifact.by_type

    async def download(self, path: Path | str, progress: Progress | None = None) -> Path:
        """Write the file to a path; as `download` of the client."""
        return await self._content.download(self._artifact, Path(path), progress)

    @overload
    def records(self, *, dedupe: bool = False) -> AsyncIterator[dict[str, Any]]: ...
    @overload
    def records(self, type: type[T], *, dedupe: bool = False) -> AsyncIterator[T]: ...
    async def records(
        self,
        type: Any = dict[str, Any],  # noqa: A002
        *,
        dedupe: bool = False,
    ) -> AsyncIterator[Any]:
        """The objects, one after the other; as `records` of the client."""
        async for record in self._content.records(self._artifact, type, dedupe=dedupe):
            yield record

    async def to_arrow(self, resource_type: str | None = None) -> pyarrow.Table:
        """A table of pyarrow."""
        return await self._read(_tables.arrow(), resource_type)

    async def to_polars(self, resource_type: str | None = None) -> polars.DataFrame:
        """A data frame of polars."""
        frame: polars.DataFrame = await self._read(_tables.polars(), resource_type)
        return frame

    async def to_pandas(self, resource_type: str | None = None) -> pandas.DataFrame:
        """A data frame of pandas."""
        return await self._read(_tables.pandas(), resource_type)

    async def batches(
        self, resource_type: str | None = None, rows: int = 50_000
    ) -> AsyncIterator[pyarrow.RecordBatch]:
        """The rows, so many at a time, as record batches of pyarrow: for what does not fit into memory."""
        read = _tables.arrow_batches(rows)
        async with self._parquet(resource_type) as path:
            for batch in read(path):
                yield batch

    async def _read(self, read: _tables.Read, resource_type: str | None) -> Any:
        async with self._parquet(resource_type) as path:
            return await in_thread(read, path)

    @asynccontextmanager
    async def _parquet(self, resource_type: str | None) -> AsyncIterator[Path | None]:
        """A file on this machine while it is read; None where the export is empty."""
        made = await self._artifacts.convert(self._artifact, Format.PARQUET)
        file = _tables.chosen(made.files, resource_type)
        with TemporaryDirectory(prefix="asana-exports-") as folder:
            path = Path(folder) / "table.parquet"
            yield await self._content.download(file, path, None) if file else None
