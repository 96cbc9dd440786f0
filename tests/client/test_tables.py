"""Tables of what an export has brought."""

import sys

import pyarrow
import pytest

from asana_exports_client import AsyncClient, Filters, Message, MissingExtra, Task, _tables, verify_receipt
from tests.client.test_downloads import EVER

FIELDS = ["gid", "name", "resource_type", "modified_at"]


async def test_an_export_becomes_tables(client: AsyncClient) -> None:
    """Their columns are what the service has found, so that a moment is one."""
    result = await client.run("1001", Task(fields=FIELDS), timeout=120)
    records = [record async for record in result.records()]
    arrow = await result.to_arrow()
    assert arrow.column("gid").to_pylist() == [record["gid"] for record in records]
    assert arrow.schema.field("modified_at").type == pyarrow.timestamp("us", "UTC")
    polars, pandas = await result.to_polars(), await result.to_pandas("task")
    assert polars.shape == pandas.shape == (len(records), arrow.num_columns)
    assert polars["gid"].to_list() == pandas["gid"].tolist() == arrow.column("gid").to_pylist()
    batches = [batch async for batch in result.batches(rows=7)]
    assert [batch.num_rows for batch in batches[:-1]] == [7] * (len(batches) - 1)
    assert pyarrow.Table.from_batches(batches) == arrow


async def test_of_several_types_one_is_named(client: AsyncClient) -> None:
    both = await client.run("1001", [Task(fields=FIELDS), Message(fields=FIELDS)], timeout=120)
    with pytest.raises(ValueError, match="Name one of the resource types in it: message, task"):
        await both.to_arrow()
    with pytest.raises(ValueError, match="message, task"):
        await both.to_arrow("team")
    messages = await both.to_polars("message")
    assert messages.height == both.types["message"]


async def test_an_empty_export_is_an_empty_table(client: AsyncClient) -> None:
    nobody = Filters(created_at_after=EVER, created_at_before=EVER)
    empty = await client.run("1001", Task(filters=nobody), timeout=120)
    assert empty.types == {}
    assert [record async for record in empty.records()] == []
    assert (await empty.to_arrow()).num_rows == (await empty.to_polars("task")).height == 0
    assert [batch async for batch in empty.batches()] == []


READERS = {"arrow": _tables.arrow, "polars": _tables.polars, "pandas": _tables.pandas}


@pytest.mark.parametrize(
    ("package", "extra"),
    [("pyarrow", "arrow"), ("polars", "polars"), ("pandas", "pandas"), ("pyarrow", "pandas")],
)
def test_a_missing_package_is_told_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"to_{extra}\(\) .* 'asana-exports-client\[{extra}\]'"):
        READERS[extra]()
    monkeypatch.setitem(sys.modules, "joserfc", None)
    with pytest.raises(MissingExtra, match="receipts"):
        verify_receipt("", {})
