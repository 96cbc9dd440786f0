"""Which keys have been seen: all of them, on whichever line they were."""

import json
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.artifacts.key_paths import MOST_PATHS, UNNAMEABLE, KeyPaths

names = st.sampled_from(["gid", "name", "a.b", "ä", ""]) | st.text(max_size=3)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


def ways(value: Any, way: str = "") -> set[str]:
    """The same told naively."""
    if isinstance(value, list):
        return {found for part in value for found in ways(part, f"{way}[]")}
    if not isinstance(value, dict):
        return set()
    steps = {(f"{way}.{key}" if way else key): part for key, part in value.items()}
    return set(steps) | {found for step, part in steps.items() for found in ways(part, step)}


def of(*lines: bytes) -> KeyPaths:
    paths = KeyPaths()
    for line in lines:
        if not paths.fits(line):
            paths.learn(orjson.loads(line))
    return paths


@given(st.lists(st.dictionaries(names, values, max_size=5), max_size=8))
def test_every_key_of_every_line_is_seen(rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row).encode("utf-8", "surrogatepass") for row in rows]
    expected = {path.replace("\0", "\ufffd") for row in rows for path in ways(row)}
    assert of(*lines).paths() == sorted(expected)


nameable = names.filter(lambda name: not UNNAMEABLE.search(name))


@given(
    st.lists(
        st.dictionaries(
            nameable, st.lists(scalars) | st.dictionaries(nameable, scalars) | scalars, max_size=5
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_was_seen_once_fits(rows: list[dict[str, Any]]) -> None:
    lines = [json.dumps(row).encode() for row in rows]
    paths = of(*lines)
    assert all(paths.fits(line) for line in lines)


def test_paths_read_like_those_asana_is_asked_with() -> None:
    paths = of(b'{"gid":"1","custom_fields":[{"enum_value":null},{"enum_value":{"gid":"2"}}],"tags":["a"]}')
    assert paths.paths() == [
        "custom_fields",
        "custom_fields[].enum_value",
        "custom_fields[].enum_value.gid",
        "gid",
        "tags",
    ]


def test_keys_without_end_are_not_kept() -> None:
    paths = of(*(b'{"%d":1}' % number for number in range(MOST_PATHS)))
    assert len(paths.paths() or ()) == MOST_PATHS
    paths.learn({"one more": 1})
    assert paths.paths() is None
    assert paths.fits(b'{"another":{"one":1}}')
    assert not paths.fits(b"<html>")


def test_keys_very_deep_down_do_not_count() -> None:
    paths = of(b'{"a":' * 500 + b"1" + b"}" * 500)
    assert paths.paths() == sorted(".".join("a" * levels) for levels in range(1, 21))
