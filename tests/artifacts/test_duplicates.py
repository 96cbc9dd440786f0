"""Lines that repeat an object: found wherever they are, and left out of the file without loss of others."""

import gzip
import resource
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.artifacts.duplicates import Duplicates, packed, unpacked, without
from app.artifacts.store import StorageFull

T = TypeVar("T")

KINDS = st.sampled_from(["task", "team", "a\0b", ""])
GIDS = st.sampled_from("12") | st.text(max_size=4)


async def each(values: Iterable[T]) -> AsyncIterator[T]:
    for value in values:
        yield value


def repeated(named: list[tuple[int, str, str]], memory_bytes: int) -> tuple[int, list[int]]:
    duplicates = Duplicates(memory_bytes)
    for line in named:
        duplicates.add([line])
    return duplicates.find(), list(duplicates.ordinals())


@given(st.lists(st.none() | st.tuples(KINDS, GIDS), max_size=50))
def test_those_and_only_those_are_found_that_came_before(lines: list[tuple[str, str] | None]) -> None:
    named = [(number, *line) for number, line in enumerate(lines) if line]
    expected = [number for number, *_ in named if lines[number] in lines[:number]]
    assert repeated(named, 1 << 20) == (len(expected), expected)


@pytest.mark.parametrize("memory_bytes", [1 << 10, 1 << 30])
def test_as_many_as_do_not_fit_into_memory_are_found_too(memory_bytes: int) -> None:
    named = [(number, "task", f"{number * 7919 % 20_000:050}") for number in range(30_000)]
    assert repeated(named, memory_bytes) == (10_000, list(range(20_000, 30_000)))


@pytest.fixture
def no_room() -> Iterator[None]:
    """Writing to any file fails from here on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("no_room")
def test_few_lines_need_no_room_on_disk_and_many_are_refused_without() -> None:
    named = [(number, "task", f"{number:050}") for number in range(30_000)]
    assert repeated(named, 16 << 20) == (0, [])
    with pytest.raises(StorageFull, match="TMPDIR"):
        repeated(named, 1 << 10)


@given(st.sets(st.integers(0, 10**12), max_size=300), st.integers(1, 50))
async def test_ordinals_are_unpacked_as_they_were_packed(ordinals: set[int], piece: int) -> None:
    ascending = sorted(ordinals)
    file = b"".join(packed(ascending))
    assert gzip.decompress(file).split() == [str(ordinal).encode() for ordinal in ascending]
    pieces = [file[start : start + piece] for start in range(0, len(file), piece)]
    assert [ordinal async for ordinal in unpacked(each(pieces))] == ascending


@given(
    st.lists(st.sampled_from([b"a", b"{}", b"", b" \r", b"long" * 20]), max_size=30),
    st.booleans(),
    st.sets(st.integers(0, 35)),
    st.integers(1, 40),
)
async def test_lines_are_left_out_wherever_the_chunks_end(
    lines: list[bytes], last_newline: bool, ordinals: set[int], piece: int
) -> None:
    whole = b"\n".join(lines) + (b"\n" if last_newline else b"")
    told = [line for line in lines if line.strip()]
    expected = [line for number, line in enumerate(told) if number not in ordinals]
    chunks = [whole[start : start + piece] for start in range(0, len(whole), piece)]
    found = b"".join([chunk async for chunk in without(each(chunks), each(sorted(ordinals)))])
    assert [line for line in found.split(b"\n") if line.strip()] == expected
    if len(expected) == len(told):
        assert found == whole


async def test_a_long_list_is_read_back_whole_and_half_of_it_not_at_all() -> None:
    """So many that the packer gives nothing for a while, which is no end."""
    pieces = [*packed(range(0, 50_000, 3))]
    assert all(pieces)
    assert [ordinal async for ordinal in unpacked(each(pieces))] == [*range(0, 50_000, 3)]
    with pytest.raises(ValueError, match="too early"):
        assert [ordinal async for ordinal in unpacked(each(pieces[:-1]))]
