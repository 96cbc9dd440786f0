"""What passes as a whole file, and what does not."""

import gzip
import json
import tracemalloc
from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.artifacts.verify import Corrupt, Limits, TooLarge, Verified, Verifier

GENEROUS = Limits(line_bytes=1 << 20, uncompressed_bytes=1 << 30)
SMALL = gzip.compress(b'{"gid":"1","resource_type":"task"}\n{"gid":"2","resource_type":"team"}\n', mtime=0)
NOT_JSON = [
    *(b"<", b"01", b"1.", b".5", b"+1", b"-", b"1e", b"NaN", b"Infinity", b"nul", b"'a'", b"1 2"),
    *(
        b"9" * 400,
        b"1e999",
        b'"\\ud800"',
        b'"\\udc00"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\t"',
        b'"\\x"',
        b'"',
    ),
    *(b"[1,]", b"{,}", b'{"a"}', b"[", b"}", b'{"a":1'),
]


def verified(
    data: bytes, piece: int = 1 << 16, limits: Limits = GENEROUS, untyped: str = "unknown"
) -> Verified:
    verifier = Verifier(limits, untyped)
    for start in range(0, len(data), piece):
        verifier.feed(data[start : start + piece])
    return verifier.finish()


objects = st.fixed_dictionaries(
    {"gid": st.text("0123456789", min_size=1), "resource_type": st.sampled_from(["task", "team", "message"])},
    optional={"name": st.text(), "nested": st.recursive(st.none() | st.text(), st.lists, max_leaves=5)},
)


@given(st.lists(objects), st.integers(1, 500), st.integers(0, 9), st.booleans())
def test_counts_are_those_of_the_standard_library(
    rows: list[dict[str, object]], piece: int, level: int, last_newline: bool
) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + ("\n" if last_newline else "")
    plain = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    data = gzip.compress(plain, level)
    found = verified(data, piece)
    assert found == Verified(
        sha256=sha256(data).hexdigest(),
        bytes=len(data),
        uncompressed_bytes=len(plain),
        lines=len(rows),
        by_type=dict(sorted(Counter(str(row["resource_type"]) for row in rows).items())),
        duplicate_gids=len(rows) - len({(row["resource_type"], row["gid"]) for row in rows}),
        key_paths={
            kind: sorted({key for row in rows if row["resource_type"] == kind for key in row})
            for kind in sorted({str(row["resource_type"]) for row in rows})
        },
    )


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(Corrupt):
            verified(SMALL[:length])


def test_a_flipped_bit_is_noticed_unless_it_means_nothing() -> None:
    for position in range(len(SMALL) * 8):
        damaged = bytearray(SMALL)
        damaged[position // 8] ^= 1 << position % 8
        try:
            found = verified(bytes(damaged))
        except Corrupt:
            continue
        # A time stamp in the header, or padding behind the last block: the content is the same.
        assert found.by_type == {"task": 1, "team": 1}


def test_several_members_are_one_file() -> None:
    assert verified(SMALL + SMALL, piece=3).lines == 4


def test_an_empty_result_is_a_result() -> None:
    assert verified(gzip.compress(b"")).lines == 0


@pytest.mark.parametrize("data", [b"", b"<html>no</html>", b"{}\n", SMALL + b"junk", SMALL + b"\0" * 64])
def test_what_is_not_gzip_to_the_last_byte_is_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        verified(data)


@pytest.mark.parametrize("line", [b"<html>", b"[1]", b'"text"', b"1", b"null", b'{"a":1}{"b":2}', b"\xff"])
def test_a_line_that_is_no_json_object_is_refused(line: bytes) -> None:
    with pytest.raises(Corrupt, match="line 2"):
        verified(gzip.compress(b'{"resource_type":"task"}\n' + line + b"\n"))


def test_a_line_that_does_not_tell_its_type_counts_as_what_was_asked_for() -> None:
    data = gzip.compress(b'{"gid":"1"}\n{"gid":"2","resource_type":null}\n{"gid":"3","resource_type":[]}\n')
    assert verified(data, untyped="task").lines == 3


def test_what_comes_after_a_known_line_is_read_as_strictly() -> None:
    """Not by orjson any more: where the two parsers do not agree, the verdict would hang on the order."""
    known = b'{"gid":"1","number":1,"text":"","list":[1],"more":{"key":null}}'
    for value in NOT_JSON:
        with pytest.raises(Corrupt, match="line 2 is not JSON"):
            verified(gzip.compress(known + b"\n" + known.replace(b":1,", b":" + value + b",")))


def test_a_line_may_be_as_deep_as_json_is_read_at_all() -> None:
    deep = b'{"gid":"1","deep":' + b"[" * 1000 + b"]" * 1000 + b"}\n"
    assert verified(gzip.compress(deep * 2)).duplicate_gids == 1


def test_no_name_in_a_file_is_too_odd_to_be_kept() -> None:
    found = verified(gzip.compress(rb'{"resource_type":"a\u0000b","c\u0000d":1}'))
    assert found.by_type == {"a\ufffdb": 1}
    assert found.key_paths == {"a\ufffdb": ["c\ufffdd", "resource_type"]}


def test_types_without_end_are_refused() -> None:
    lines = b"".join(b'{"resource_type":"%d"}\n' % number for number in range(1001))
    with pytest.raises(TooLarge, match="resource types"):
        verified(gzip.compress(lines))


def test_a_bomb_is_refused_before_it_fills_memory() -> None:
    bomb = gzip.compress(b"\n" * 200_000_000)
    limits = Limits(line_bytes=1 << 20, uncompressed_bytes=50_000_000)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="unpacks"):
        verified(bomb, limits=limits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_an_endless_line_is_refused_before_it_fills_memory() -> None:
    endless = gzip.compress(b'{"name":"' + b"x" * 100_000_000)
    tracemalloc.start()
    with pytest.raises(TooLarge, match="line"):
        verified(endless, limits=Limits(line_bytes=4 << 20, uncompressed_bytes=1 << 40))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
