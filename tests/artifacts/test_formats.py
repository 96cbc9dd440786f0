"""What becomes of lines in Parquet and CSV, as others read them: DuckDB and the standard library."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.artifacts.formats import BATCH_BYTES, MOST_TYPES, convert
from app.artifacts.outputs import Format, Output, Unconvertible
from app.artifacts.shapes import DEEPEST, MOST_KEYS

Row = dict[str, Any]
LINE_BYTES = 1 << 20


def compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def packed(path: Path, rows: Iterable[object]) -> Path:
    path.write_bytes(gzip.compress("".join(compact(row) + "\n" for row in rows).encode(), 1))
    return path


def made(folder: Path, rows: Iterable[object], form: Format) -> list[Output]:
    source = packed(folder / "source.gz", rows)
    return convert(source, folder, form, untyped="task", line_bytes=LINE_BYTES)


def parquet(folder: Path, rows: list[Row]) -> list[Row]:
    """The rows of the one type, as DuckDB reads them."""
    (output,) = made(folder, rows, Format.PARQUET)
    assert output.rows == len(rows)
    return read_parquet(output)


def read_parquet(output: Output) -> list[Row]:
    with duckdb.connect(config={"autoinstall_known_extensions": False, "TimeZone": "UTC"}) as connection:
        read = connection.execute(
            "SELECT to_json(t) FROM read_parquet(?, file_row_number := true) t ORDER BY t.file_row_number",
            [str(output.path)],
        )
        rows = [json.loads(text) for (text,) in read.fetchall()]
    for row in rows:
        del row["file_row_number"]
    return rows


def as_csv(folder: Path, rows: list[Row]) -> str:
    (output,) = made(folder, rows, Format.CSV)
    return output.path.read_bytes().decode()


# What the mapping of docs/formats.md makes of all values of a field, said once more in another way.


def as_parquet(rows: list[Row]) -> list[Row]:
    columns = {}
    fields = list(dict.fromkeys(field for row in rows for field in row)) or ["gid"]
    for field, name in zip(fields, distinct(fields), strict=True):
        columns[name] = column(field, [row.get(field) for row in rows])
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def distinct(fields: list[str]) -> list[str]:
    names: list[str] = []
    for field in (field.replace("\0", "") or "_" for field in fields):
        candidates = [field, *(f"{field}_{number}" for number in range(2, len(fields) + 2))]
        taken = {name.lower() for name in names}
        names.append(next(name for name in candidates if name.lower() not in taken))
    return names


def column(field: str, values: list[Any]) -> list[Any]:
    present = [value for value in values if value is not None]
    return [None if value is None else read for value, read in filled(values, mapped(field, present))]


def filled(values: list[Any], present: list[Any]) -> Iterable[tuple[Any, Any]]:
    rest = iter(present)
    return [(value, None if value is None else next(rest)) for value in values]


def mapped(field: str, values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values}
    if kinds <= {str}:
        return moments(field, values)
    if kinds == {bool} or (kinds == {int} and all(-(2**63) <= value < 2**63 for value in values)):
        return values
    if kinds in ({float}, {int, float}) and all(abs(v) <= 2**53 for v in values if isinstance(v, int)):
        return [float(value) for value in values]
    if kinds == {list}:
        items = iter(column("", [item for value in values for item in value]))
        return [[next(items) for _ in value] for value in values]
    if kinds == {dict} and any(values):
        return as_parquet(values)
    return [compact(value) for value in values]


def moments(field: str, values: list[str]) -> list[Any]:
    readers: dict[str, Callable[[str], str]] = {"_at": instant, "_on": day}
    try:
        return [readers[field[-3:]](value) for value in values]
    except (KeyError, ValueError, OverflowError):
        return list(values)


def instant(text: str) -> str:
    if len(text) < 20 or text[10] != "T" or not (text[-1] == "Z" or text[-3] == ":"):
        raise ValueError
    moment = datetime.fromisoformat(text).astimezone(UTC)
    fraction = f"{moment:.%f}".rstrip("0").rstrip(".")
    return f"{moment.replace(tzinfo=None, microsecond=0).isoformat(' ')}{fraction}+00"


def day(text: str) -> str:
    if len(text) != 10:
        raise ValueError
    return date.fromisoformat(text).isoformat()


text = st.text(st.characters(exclude_categories=["Cs"]))
names = st.sampled_from(
    ["gid", "a", "A", "a_2", "", "x.y", "q\"'`", "né", "n\0\r\n", "漢\U0001f600", "sp ace"]
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-8))])
instants = st.datetimes(timezones=zones).map(lambda moment: moment.isoformat().replace("+00:00", "Z"))
days = st.dates().map(date.isoformat)
numbers = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(2**70), 2**70) | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
alike = st.sampled_from(
    [
        *(st.booleans(), st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1), numbers, text, st.just({})),
        *(numbers | st.integers(-9, 9), numbers | st.integers(2**53, 2**64), st.lists(st.none() | text)),
        *(st.lists(st.fixed_dictionaries({}, optional={"a": text, "A": st.integers()})), st.none(), anything),
        st.fixed_dictionaries({"gid": text}, optional={"b_at": instants, "c_on": days, "d": anything}),
    ]
)
moment_fields = st.fixed_dictionaries(
    {},
    optional={
        "created_at": st.just(st.none() | instants),
        "due_on": st.just(st.none() | days),
        "mixed_at": st.just(instants | text),
        "mixed_on": st.just(instants | days),
        "plain": st.just(instants | days),
    },
)


def rows_of(kinds: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries({}, optional={name: st.none() | kind for name, kind in kinds.items()})
    return st.lists(row, min_size=1, max_size=8)


lines = st.builds(dict.__or__, st.dictionaries(names, alike), moment_fields).flatmap(rows_of)


@settings(max_examples=300, deadline=None)
@given(lines)
def test_numbers_nulls_unicode_and_moments_survive_the_trip_into_parquet(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        assert parquet(Path(folder), rows) == as_parquet(rows)


@settings(max_examples=300, deadline=None)
@given(lines)
def test_numbers_nulls_unicode_and_moments_survive_the_trip_into_csv(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        written = as_csv(Path(folder), rows)
    header, *records = csv.reader(io.StringIO(written, newline=""), strict=True)
    fields = list(dict.fromkeys(field for row in rows for field in row)) or ["gid"]
    assert header == distinct(fields)
    for record, row in zip(records, rows, strict=True):
        # The one null of a table with one column is an empty line.
        cells = dict(zip(fields, record or [""], strict=True))
        for field, cell in cells.items():
            value = row.get(field)
            assert cell in ("" if value is None else value, compact(value)), field


@settings(max_examples=100, deadline=None)
@given(lines)
def test_a_file_made_twice_is_the_same(rows: list[Row]) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        for form in Format:
            first, second = (made(Path(folder), rows, form) for folder in (one, other))
            assert [output.sha256 for output in first] == [output.sha256 for output in second]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([1, None, 2**63 - 1], [1, None, 2**63 - 1]),
        ([1, 2**63], ["1", "9223372036854775808"]),
        ([10**40], [str(10**40)]),
        ([1, 2.5], [1.0, 2.5]),
        ([2**53 + 1, 2.5], ["9007199254740993", "2.5"]),
        ([0.1, 5e-324, 1.7976931348623157e308, -0.0], [0.1, 5e-324, 1.7976931348623157e308, -0.0]),
        (["7", 7, None, "null"], ['"7"', "7", None, '"null"']),
        ([True, 1], ["true", "1"]),
        ([{"a": 1}, "a", [1]], ['{"a":1}', '"a"', "[1]"]),
        ([None, None], [None, None]),
        ([[], None], [[], None]),
        ([{}, None], ["{}", None]),
        ([{}, {"b": 1}], [{"b": None}, {"b": 1}]),
        ([[1, None, "x"]], [["1", None, '"x"']]),
        ([[{"b": 1}], [{"c": "2"}, None]], [[{"b": 1, "c": None}], [{"b": None, "c": "2"}, None]]),
        (["2026-1-1", "1234", "00000000-0000-0000-0000-000000000000"],) * 2,
        (["", None, "\0", "a\0b", "\u2028\r\n\"'"], ["", None, "\0", "a\0b", "\u2028\r\n\"'"]),
    ],
)
def test_values_become_what_is_promised(tmp_path: Path, values: list[Any], read: list[Any]) -> None:
    assert parquet(tmp_path, [{"gid": "1", "value": value} for value in values]) == [
        {"gid": "1", "value": value} for value in read
    ]


@pytest.mark.parametrize(
    ("name", "values", "read"),
    [
        ("a_at", ["2026-01-02T03:04:05.678Z", None], ["2026-01-02 03:04:05.678+00", None]),
        ("a_at", ["2026-01-02T03:04:05+02:00"], ["2026-01-02 01:04:05+00"]),
        ("a_at", ["1969-12-31T23:59:59.999999Z"], ["1969-12-31 23:59:59.999999+00"]),
        ("a_at", ["2026-01-02T03:04:05.1234567Z"], ["2026-01-02T03:04:05.1234567Z"]),
        ("a_at", ["2026-01-02T03:04:05"], ["2026-01-02T03:04:05"]),
        ("a_at", ["2026-01-02T03:04:60Z"], ["2026-01-02T03:04:60Z"]),
        ("a_at", ["2026-01-02T24:00:00Z"], ["2026-01-02T24:00:00Z"]),
        ("a_at", ["2026-02-30T00:00:00Z"], ["2026-02-30T00:00:00Z"]),
        ("a_at", ["0001-01-01T00:00:00+05:00"], ["0001-01-01T00:00:00+05:00"]),
        ("a_at", ["٢٠٢٦-01-02T03:04:05Z"], ["٢٠٢٦-01-02T03:04:05Z"]),
        ("a_at", ["2026-01-02T03:04:05Z", ""], ["2026-01-02T03:04:05Z", ""]),
        ("a_at", ["2026-01-02T03:04:05Z", 7], ['"2026-01-02T03:04:05Z"', "7"]),
        ("a_on", ["2026-01-02", "0001-01-01"], ["2026-01-02", "0001-01-01"]),
        ("a_on", ["2026-02-30"], ["2026-02-30"]),
        ("a_on", ["20260102"], ["20260102"]),
        ("at", ["2026-01-02T03:04:05Z"], ["2026-01-02T03:04:05Z"]),
    ],
)
def test_moments_are_moments_only_if_all_of_them_survive(
    tmp_path: Path, name: str, values: list[Any], read: list[Any]
) -> None:
    assert parquet(tmp_path, [{name: value} for value in values]) == [{name: value} for value in read]


def test_the_schema_holds_for_a_line_that_comes_late(tmp_path: Path) -> None:
    rows: list[Row] = [{"n": 1}] * 5000 + [{"n": {"deep": [1.5]}, "late": True}]
    read = parquet(tmp_path, rows)
    assert read[0] == {"n": "1", "late": None}
    assert read[-1] == {"n": '{"deep":[1.5]}', "late": True}


def test_names_that_differ_only_in_case_stay_apart_for_readers_that_do_not_see_it(tmp_path: Path) -> None:
    rows = [{"name": 1, "Name": 2, "NAME": 3, "name_2": 4, "o": {"x": 1, "X": 2, "": 3}}]
    assert parquet(tmp_path, rows) == [
        {"name": 1, "Name_2": 2, "NAME_3": 3, "name_2_2": 4, "o": {"x": 1, "X_2": 2, "_": 3}}
    ]


@pytest.mark.parametrize("form", Format)
def test_each_resource_type_has_a_file_whose_name_it_cannot_choose(tmp_path: Path, form: Format) -> None:
    kinds = ["../../../etc/passwd", "task", "\0", "a/b", "'; DROP TABLE x; --", "x" * 5000]
    folder = tmp_path / "made"
    folder.mkdir()
    source = packed(tmp_path / "source.gz", [{"resource_type": kind} for kind in kinds] + [{"gid": "1"}])
    outputs = convert(source, folder, form, untyped="task", line_bytes=LINE_BYTES)
    assert [output.resource_type for output in outputs] == sorted(kind.replace("\0", "") for kind in kinds)
    assert {path.name for path in folder.iterdir()} == {f"{number:03}.{form}" for number in range(6)}
    for output in outputs:
        stored = output.path.read_bytes()
        assert (output.bytes, output.sha256) == (len(stored), sha256(stored).hexdigest())
    assert {output.resource_type: output.rows for output in outputs}["task"] == 2


@pytest.mark.parametrize("form", Format)
def test_a_type_that_is_no_text_is_that_of_the_export(tmp_path: Path, form: Format) -> None:
    (output,) = made(tmp_path, [{"resource_type": 7}, {"resource_type": None}, {}], form)
    assert (output.resource_type, output.rows) == ("task", 3)


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("empty", [[], [b""], [b"\n \n\r\n"]])
def test_no_objects_make_no_files(tmp_path: Path, form: Format, empty: list[bytes]) -> None:
    source = tmp_path / "source.gz"
    source.write_bytes(b"".join(gzip.compress(part) for part in empty))
    assert convert(source, tmp_path, form, untyped="task", line_bytes=LINE_BYTES) == []


def test_objects_without_any_field_are_rows_all_the_same(tmp_path: Path) -> None:
    assert parquet(tmp_path, [{}, {}]) == [{"gid": None}, {"gid": None}]


def test_what_is_nested_too_deeply_is_kept_as_text(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(300):
        value = {"in": value}
    (row,) = parquet(tmp_path, [{"gid": "1", "deep": value}])
    kept = row["deep"]
    for _ in range(DEEPEST - 1):
        kept = kept["in"]
    inner = json.loads(kept)
    for _ in range(DEEPEST - 1):
        value = value["in"]
    assert inner == value


def test_an_object_whose_keys_are_data_is_kept_as_text(tmp_path: Path) -> None:
    rows = [{"by_gid": {str(number): number}} for number in range(MOST_KEYS + 1)]
    assert parquet(tmp_path, rows) == [{"by_gid": compact(row["by_gid"])} for row in rows]


def test_many_lines_of_several_types_keep_their_order(tmp_path: Path) -> None:
    filler = "x" * 10_000
    rows = [{"resource_type": "ab"[n % 2], "n": n, "s": filler} for n in range(3 * BATCH_BYTES // 10_000)]
    outputs = made(tmp_path, rows, Format.PARQUET)
    for output, kind in zip(outputs, "ab", strict=True):
        assert [row["n"] for row in read_parquet(output)] == [
            row["n"] for row in rows if row["resource_type"] == kind
        ]


def test_csv_tells_null_from_empty_text(tmp_path: Path) -> None:
    rows = [{"a": None, "b": "", "c": "=1+1", "d": 'x"\n', "e": {"f": [None]}, "g": 1.0, "h": False}]
    assert as_csv(tmp_path, rows) == (
        '"a","b","c","d","e","g","h"\r\n,"","=1+1","x""\n","{""f"":[null]}",1.0,false\r\n'
    )


def test_the_columns_are_told(tmp_path: Path) -> None:
    row = {
        "gid": "1",
        "created_at": "2026-01-02T03:04:05Z",
        "due_on": "2026-01-02",
        "tags": [1],
        "o": {"a": 1},
    }
    (output,) = made(tmp_path, [row], Format.PARQUET)
    assert [f"{name} {form}" for name, form in output.columns] == [
        *("gid text", "created_at timestamp", "due_on date", "tags list", "o struct")
    ]
    (output,) = made(tmp_path, [row], Format.CSV)
    assert [f"{name} {form}" for name, form in output.columns][-2:] == ["tags json", "o json"]


def zipped(text: bytes) -> bytes:
    return gzip.compress(text, mtime=0)


GOOD = zipped(b'{"gid":"1"}\n' * 3)
MANY_TYPES = b"".join(b'{"resource_type":"%d"}\n' % number for number in range(MOST_TYPES + 1))
MANY_FIELDS = b"".join(b'{"%d":1}\n' % number for number in range(MOST_KEYS + 1))
REFUSED: dict[str, tuple[bytes, str]] = {
    "no gzip": (b"plain text", "damaged"),
    "cut": (GOOD[:-9], "damaged"),
    "wrong checksum": (GOOD[:-6] + b"\0" + GOOD[-5:], "damaged"),
    "wrong within": (GOOD[:12] + b"\xff\xff" + GOOD[14:], "damaged"),
    "cut before it was zipped": (zipped(b'{"gid":"1"}\n{"gid"'), "line 2 cannot be read"),
    "an array": (zipped(b"[1]\n"), "line 1 is not a JSON object"),
    "two values": (zipped(b"{} {}\n"), "line 1 cannot be read"),
    "beyond a double": (zipped(b'{"a":1e999}'), "line 1 cannot be read: 1e999 is out of range"),
    "not a number": (zipped(b'{"a":NaN}'), "NaN is out of range"),
    "not UTF-8": (zipped(b'{"a":"\xff"}'), "line 1 cannot be read"),
    "half a character": (zipped(b'{"a":"\\ud800"}'), "line 1 cannot be read"),
    "half a character in a name": (zipped(b'{"\\ud800":1}'), "line 1 cannot be read"),
    "bottomless": (zipped(b"[" * 100_000), "line 1 cannot be read"),
    "a long line": (zipped(b'{"a":"' + b"x" * LINE_BYTES + b'"}'), "line 1 is longer"),
    "many types": (zipped(MANY_TYPES), "resource types"),
    "many fields": (zipped(MANY_FIELDS), "too many different fields"),
}


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_converted_says_why(tmp_path: Path, form: Format, fault: str) -> None:
    data, reason = REFUSED[fault]
    source = tmp_path / "source.gz"
    source.write_bytes(data)
    with pytest.raises(Unconvertible, match=reason):
        convert(source, tmp_path, form, untyped="task", line_bytes=LINE_BYTES)
