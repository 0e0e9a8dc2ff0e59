"""The format of a segment: what is written is read back, and what is not exactly that is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from hush_core.errors import JournalError
from hush_core.journal.format import (
    BELL_AT,
    DROP_REASONS,
    DROPPED_AT,
    HEADER_BYTES,
    SegmentHeader,
    pack_dropped,
    pack_header,
    parse_segment_name,
    segment_name,
    unpack_dropped,
    unpack_header,
)
from hush_core.system import ProcessIdentity, process_identity

HEADER = SegmentHeader(256 * 1024, bytes(range(16)), 7, process_identity(), 2**61 + 5, 1_700_000_000_000_000_000)

unsigned_32 = st.integers(0, 2**32 - 1)
unsigned_64 = st.integers(0, 2**64 - 1)
sixteen_bytes = st.binary(min_size=16, max_size=16)
headers = st.builds(
    SegmentHeader,
    size=unsigned_64,
    journal_id=sixteen_bytes,
    number=unsigned_32,
    owner=st.builds(ProcessIdentity, unsigned_32, unsigned_64, sixteen_bytes, unsigned_64),
    first_sequence=unsigned_64,
    created_ns=unsigned_64,
)


@given(headers)
def test_a_header_is_read_back_as_it_was_written(header: SegmentHeader) -> None:
    page = pack_header(header)
    assert len(page) == HEADER_BYTES
    assert unpack_header(page) == header


def test_a_new_header_has_its_bell_armed_so_that_the_first_append_rings() -> None:
    assert pack_header(HEADER)[BELL_AT] == 1


def test_a_header_that_differs_in_any_byte_is_refused() -> None:
    page = pack_header(HEADER)
    for at in range(BELL_AT):
        damaged = bytearray(page)
        damaged[at] ^= 0x40
        with pytest.raises(JournalError):
            unpack_header(bytes(damaged))


@given(st.binary(min_size=HEADER_BYTES - BELL_AT, max_size=HEADER_BYTES - BELL_AT))
def test_what_changes_while_a_segment_lives_is_not_under_the_checksum(changing: bytes) -> None:
    assert unpack_header(pack_header(HEADER)[:BELL_AT] + changing) == HEADER


@pytest.mark.parametrize("length", [0, 1, 8, 127, HEADER_BYTES - 1])
def test_a_header_that_was_cut_off_is_refused(length: int) -> None:
    with pytest.raises(JournalError):
        unpack_header(pack_header(HEADER)[:length])


@given(st.binary(max_size=2 * HEADER_BYTES))
def test_bytes_that_are_no_header_are_refused(page: bytes) -> None:
    with pytest.raises(JournalError, match="not a journal segment"):
        unpack_header(page)


def test_a_whole_page_of_zeros_is_refused() -> None:
    with pytest.raises(JournalError, match="not a journal segment"):
        unpack_header(bytes(HEADER_BYTES))


def test_a_newer_format_is_refused_and_named() -> None:
    page = bytearray(pack_header(HEADER))
    struct.pack_into("<H", page, 8, 2)
    struct.pack_into("<Q", page, 120, xxh3_64_intdigest(bytes(page[:120])))
    with pytest.raises(JournalError, match=r"format 2.*reads format 1.*left untouched"):
        unpack_header(bytes(page))


@given(st.lists(unsigned_64, min_size=len(DROP_REASONS), max_size=len(DROP_REASONS)))
def test_counts_of_dropped_records_are_read_back_by_reason(counts: list[int]) -> None:
    page = bytearray(pack_header(HEADER))
    packed = pack_dropped(counts)
    page[DROPPED_AT : DROPPED_AT + len(packed)] = packed
    assert unpack_dropped(bytes(page)) == {
        reason: count for reason, count in zip(DROP_REASONS, counts, strict=True) if count
    }


def test_the_counts_of_all_reasons_fit_into_the_header() -> None:
    assert DROPPED_AT + len(pack_dropped([0] * len(DROP_REASONS))) <= HEADER_BYTES


@given(sixteen_bytes, unsigned_32)
def test_a_segment_name_says_its_journal_and_its_number(journal_id: bytes, number: int) -> None:
    assert parse_segment_name(segment_name(journal_id, number)) == (journal_id, number)


def test_names_of_a_journal_sort_in_the_order_of_its_segments() -> None:
    names = [segment_name(bytes(16), number) for number in (0, 9, 10, 99, 100, 999_999)]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "writer.lock",
        "doorbell",
        "free-4194304-0011223344556677",
        f"new-{'0' * 32}-000000.segment",
        f"{'0' * 32}.segment",
        f"{'0' * 31}-000000.segment",
        f"{'0' * 32}-.segment",
        f"{'0' * 32}-x.segment",
        f"{'0' * 32}-000000.bytes",
        f"{'0' * 32}-²².segment",
        f"{'z' * 32}-000000.segment",
        f"{'A' * 32}-000000.segment",
        f"{'0' * 30}  -000000.segment",
        f"{'0' * 32}-1.segment",
        f"{'0' * 32}-000000.segment.bak",
    ],
)
def test_a_name_that_no_segment_has_is_not_taken_for_one(name: str) -> None:
    assert parse_segment_name(name) is None


@given(st.text(max_size=60))
def test_only_a_name_that_a_segment_would_get_is_taken_for_one(name: str) -> None:
    parsed = parse_segment_name(name)
    assert parsed is None or segment_name(*parsed) == name
