"""Replaying a journal's bytes: never anything that was not appended, and everything that is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from hush_core.journal.format import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    FRAME_MAGIC_BYTES,
    HEADER_BYTES,
    SegmentHeader,
    pack_header,
    segment_name,
    unpack_header,
)
from hush_core.journal.reader import (
    READ_BYTES,
    count_pending,
    last_used_byte,
    next_good_frame,
    numbers_before,
    owner_is_gone,
    replay,
    segments,
    survey,
)
from hush_core.system import FILES, Files, ProcessIdentity, process_identity
from tests.journal.conftest import Journals, MappedFiles, run_in_child

FIRST = 1 << 61


class Bytes(Files):
    """A file system of one file, held in memory: thousands of examples need no disk. The tests below read real ones."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, fd: int, size: int, offset: int) -> bytes:
        return self.content[offset : offset + size]

    def size(self, fd: int) -> int:
        return len(self.content)


def frame(payload: bytes, sequence: int) -> bytes:
    return FRAME_HEADER.pack(FRAME_MAGIC, len(payload), sequence, xxh3_64_intdigest(payload, sequence)) + payload


def frames(payloads: list[bytes], first: int = FIRST) -> bytes:
    return b"".join(frame(payload, first + number) for number, payload in enumerate(payloads))


def read_on(content: bytes, max_bytes: int = READ_BYTES) -> list[bytes]:
    """What is read from the start on, as long as there is no damage."""
    files, at, found = Bytes(content), 0, []
    while True:
        step = replay(files, 0, at, FIRST, max_bytes)
        if not step.payloads:
            return found
        found += step.payloads
        at = step.end


def recover(content: bytes) -> list[bytes]:
    """What is read when damage is stepped over."""
    files, at, found = Bytes(content), 0, []
    while True:
        step = replay(files, 0, at, FIRST)
        found += step.payloads
        if step.payloads:
            at = step.end
            continue
        behind = next_good_frame(files, 0, at, FIRST)
        if behind is None:
            return found
        assert behind > at
        at = behind


# A payload may hold anything, also what looks like the begin of a frame.
payloads = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.binary(max_size=20).map(lambda data: data + FRAME_MAGIC_BYTES + data),
    st.builds(lambda length: FRAME_MAGIC_BYTES + length.to_bytes(4, "little") + bytes(16), st.integers(0, 2**32 - 1)),
    st.just(b"\0" * 40),
)
journals_of = st.lists(payloads, min_size=1, max_size=12)


def is_subsequence(some: list[bytes], of: list[bytes]) -> bool:
    rest = iter(of)
    return all(payload in rest for payload in some)


# -- whole journals and their prefixes --------------------------------------------------------------------------------


@given(journals_of, st.integers(FRAME_HEADER_BYTES, 200))
def test_all_that_was_appended_is_replayed_however_little_is_read_at_once(
    appended: list[bytes], max_bytes: int
) -> None:
    assert read_on(frames(appended) + bytes(100), max_bytes) == appended


@given(journals_of, st.data())
def test_any_prefix_of_a_journal_replays_to_a_prefix_of_what_was_appended(
    appended: list[bytes], data: st.DataObject
) -> None:
    content = frames(appended)
    cut = data.draw(st.integers(0, len(content)))
    for torn in (content[:cut], content[:cut] + bytes(200)):
        whole = 0
        # What was cut off may have been zeros, as those that follow are: then nothing is missing.
        while whole < len(appended) and torn.startswith(frames(appended[: whole + 1])):
            whole += 1
        assert read_on(torn) == appended[:whole]
        assert recover(torn) == appended[:whole]


@given(journals_of, st.data(), st.binary(min_size=1, max_size=200))
def test_a_prefix_followed_by_garbage_replays_to_a_prefix(
    appended: list[bytes], data: st.DataObject, garbage: bytes
) -> None:
    content = frames(appended)
    cut = data.draw(st.integers(0, len(content)))
    assume(not content[cut:].startswith(garbage))
    found = read_on(content[:cut] + garbage)
    assert found == appended[: len(found)]
    assert recover(content[:cut] + garbage) == found


@given(journals_of, st.data())
def test_frames_in_another_order_are_all_replayed(appended: list[bytes], data: st.DataObject) -> None:
    """Threads take their sequence before they copy."""
    numbered = data.draw(st.permutations(list(enumerate(appended))))
    content = b"".join(frame(payload, FIRST + number) for number, payload in numbered)
    found = replay(Bytes(content), 0, 0, FIRST)
    assert found.payloads == [payload for _, payload in numbered]
    assert found.highest_sequence == FIRST + len(appended) - 1


def test_the_record_that_opens_a_journal_is_not_counted_among_the_apps() -> None:
    found = replay(Bytes(frames([b"origin", b"one", b"two"], FIRST - 1)), 0, 0, FIRST)
    assert (len(found.payloads), found.records) == (3, 2)


@pytest.mark.parametrize(
    ("sequences", "before"),
    [
        ([], None),
        ([0, 1, 2, 3], 0),
        ([100, 101, 102, 103], 100),
        ([99, 101, 102, 103], 100),  # another thread's 100 is in the segment before
        ([101, 99, 103, 102, 104], 100),
        ([100, 101, 102, 104], 100),  # a thread may still be about to write its 103
    ],
)
def test_numbers_before_a_segment_are_those_that_no_record_from_there_on_has(
    sequences: list[int], before: int | None
) -> None:
    content = b"".join(frame(b"x", FIRST + sequence) for sequence in sequences)
    assert numbers_before(Bytes(content), 0, 0, FIRST) == before


def test_a_frame_larger_than_what_is_read_at_once_is_replayed() -> None:
    large = os.urandom(3 * READ_BYTES)
    assert read_on(frames([b"before", large, b"after"])) == [b"before", large, b"after"]


# -- damage -----------------------------------------------------------------------------------------------------------


@given(journals_of, st.data())
def test_a_flipped_bit_costs_at_most_the_record_it_is_in_and_never_invents_one(
    appended: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(frames(appended))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    hit, end = 0, len(frame(appended[0], FIRST))
    while end <= at:
        hit += 1
        end += len(frame(appended[hit], FIRST))
    assert recover(bytes(content)) == appended[:hit] + appended[hit + 1 :]


@given(journals_of, st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=80)), max_size=4))
def test_whatever_is_written_over_a_journal_no_record_is_invented(
    appended: list[bytes], damages: list[tuple[int, bytes]]
) -> None:
    content = bytearray(frames(appended))
    for at, damage in damages:
        content[at : at + len(damage)] = damage[: max(len(content) - at, 0)]
    assert is_subsequence(recover(bytes(content)), appended)


@given(journals_of, st.integers(0, 700), st.integers(1, 300))
def test_a_hole_of_zeros_costs_only_the_records_it_touches(appended: list[bytes], start: int, length: int) -> None:
    """A power cut may lose any page that was not synced."""
    content = frames(appended)
    end = min(start + length, len(content))
    start = min(start, end)
    holed = content[:start] + bytes(end - start) + content[end:]
    kept, at = [], 0
    for number, payload in enumerate(appended):
        size = len(frame(payload, FIRST + number))
        if holed[at : at + size] == content[at : at + size]:
            kept.append(payload)
        at += size
    assert recover(holed) == kept


@given(journals_of)
def test_frames_of_another_journal_in_a_recycled_file_are_not_taken_for_this_ones(appended: list[bytes]) -> None:
    assert recover(frames(appended, first=FIRST + (1 << 50))) == []
    assert recover(frames(appended, first=FIRST - 5000)) == []


def test_a_run_of_zeros_is_no_frame_and_no_damage() -> None:
    found = replay(Bytes(bytes(4096)), 0, 0, FIRST)
    assert (found.payloads, found.damaged, found.end) == ([], False, 0)


@pytest.mark.parametrize("torn_at", [1, 4, 23, 24, 25, 60])
def test_a_torn_frame_is_damage(torn_at: int) -> None:
    whole = frames([b"x" * 40])
    found = replay(Bytes(whole[:torn_at] + bytes(100)), 0, 0, FIRST)
    assert (found.payloads, found.damaged) == ([], True)


def test_an_empty_frame_is_damage_and_not_a_record() -> None:
    found = replay(Bytes(frame(b"", FIRST) + bytes(50)), 0, 0, FIRST)
    assert (found.payloads, found.damaged) == ([], True)


def test_a_length_that_no_appender_writes_is_not_read_into_memory() -> None:
    class Counting(Bytes):
        most = 0

        def read(self, fd: int, size: int, offset: int) -> bytes:
            self.most = max(self.most, size)
            return super().read(fd, size, offset)

    files = Counting(FRAME_HEADER.pack(FRAME_MAGIC, 2**32 - 1, FIRST, 0) + b"x" * 100)
    assert replay(files, 0, 0, FIRST).damaged
    assert files.most <= READ_BYTES


def test_a_good_frame_is_found_across_the_border_of_two_reads() -> None:
    for before in range(READ_BYTES - 5, READ_BYTES + 5):
        content = b"\xff" * before + frame(b"found", FIRST)
        assert next_good_frame(Bytes(content), 0, 0, FIRST) == before


def test_the_last_used_byte_is_found_over_several_reads() -> None:
    content = b"x" + bytes(2 * READ_BYTES) + b"y" + bytes(100)
    assert last_used_byte(Bytes(content), 0, 0) == 2 * READ_BYTES + 2
    assert last_used_byte(Bytes(content), 0, 2 * READ_BYTES + 2) == 2 * READ_BYTES + 2
    assert last_used_byte(Bytes(bytes(100)), 0, 30) == 30


# -- real files -------------------------------------------------------------------------------------------------------


def write_segment(directory: Path, number: int, content: bytes, owner: ProcessIdentity | None = None) -> Path:
    FILES.make_directory(directory)
    header = SegmentHeader(0, bytes(range(16)), number, owner or process_identity(), FIRST, 0)
    path = directory / segment_name(header.journal_id, number)
    path.write_bytes(pack_header(header) + content)
    return path


def test_a_survey_counts_what_is_behind_the_stored_position(tmp_path: Path) -> None:
    write_segment(tmp_path, 0, frames([b"a", b"b", b"c"]))
    write_segment(tmp_path, 1, frames([b"d"], FIRST + 3) + bytes(50))
    (found,) = survey(tmp_path)
    assert (found.pid, found.alive, found.first_sequence, found.problem) == (os.getpid(), True, FIRST, None)
    assert count_pending(found, 0, HEADER_BYTES).records == 4
    behind_two = HEADER_BYTES + len(frames([b"a", b"b"]))
    assert count_pending(found, 0, behind_two).records == 2
    assert count_pending(found, 1, HEADER_BYTES).records == 1
    assert count_pending(found, 2, HEADER_BYTES).records == 0


def test_a_survey_counts_good_records_behind_damage(tmp_path: Path) -> None:
    torn = frame(b"x" * 100, FIRST + 1)[:-10]
    write_segment(tmp_path, 0, frame(b"a", FIRST) + torn + frames([b"c", b"d"], FIRST + 2))
    (found,) = survey(tmp_path)
    assert count_pending(found, 0, HEADER_BYTES).records == 3


def test_a_survey_names_a_journal_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_segment(tmp_path, 0, b"")
    path.write_bytes(b"garbage" * 100)
    (found,) = survey(tmp_path)
    assert found.problem is not None
    assert "not a journal segment" in found.problem


def test_a_survey_of_no_directory_is_empty(tmp_path: Path) -> None:
    assert survey(tmp_path / "nothing") == []
    assert segments(FILES, tmp_path / "nothing") == {}


def test_segments_are_listed_in_order_and_other_files_are_not(tmp_path: Path) -> None:
    for number in (10, 2, 0):
        write_segment(tmp_path, number, b"")
    for name in ("writer.lock", "free-4096-ab", "new-x.segment", "notes.txt"):
        (tmp_path / name).touch()
    assert segments(FILES, tmp_path) == {bytes(range(16)): [0, 2, 10]}


# -- is the owner gone? -----------------------------------------------------------------------------------------------


def open_owner(journals: Journals) -> tuple[int, Path]:
    """A child that has recorded and lives until its pipe closes: the pipe and its segment."""
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    journal = journals.open(MappedFiles() if os.path.exists("/proc") else FILES)
    if os.fork() == 0:
        os.close(end_write)
        journal.append(b"x")
        os.write(ready_write, b"!")
        os.read(end_read, 1)
        os._exit(0)
    os.close(end_read)
    os.read(ready_read, 1)
    os.close(ready_read)
    os.close(ready_write)
    return end_write, journals.segments()[0]


def is_gone(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        return owner_is_gone(FILES, fd, unpack_header(path.read_bytes()))
    finally:
        os.close(fd)


def test_an_owner_is_gone_once_its_process_has_ended_and_not_before(journals: Journals) -> None:
    end, path = open_owner(journals)
    assert not is_gone(path)
    os.close(end)
    os.wait()
    assert is_gone(path)


def test_a_zombie_owner_is_gone(journals: Journals) -> None:
    end, path = open_owner(journals)
    os.close(end)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # ended, and not yet waited for
    assert is_gone(path)
    os.wait()


def test_a_lock_alone_is_proof_of_life_where_the_process_cannot_be_seen(tmp_path: Path) -> None:
    """The owner may be in another container: its pid says nothing here."""
    elsewhere = process_identity()._replace(pid_namespace=1, pid=1)
    path = write_segment(tmp_path, 0, b"", elsewhere)
    fd = os.open(path, os.O_RDWR)
    assert FILES.lock(fd)
    run_in_child(lambda: _assert(not is_gone(path)))
    os.close(fd)
    run_in_child(lambda: _assert(is_gone(path)))


def test_a_process_that_lost_its_lock_is_alive_all_the_same(tmp_path: Path) -> None:
    """Closing any descriptor of a file gives up a process's lock of it; its mapping lives on."""
    path = write_segment(tmp_path, 0, b"", process_identity())
    assert not is_gone(path)


def test_an_owner_of_another_boot_is_gone(tmp_path: Path) -> None:
    path = write_segment(tmp_path, 0, b"", process_identity()._replace(boot_id=bytes(range(16))))
    assert is_gone(path)


def test_a_later_process_with_the_same_pid_is_not_the_owner(tmp_path: Path) -> None:
    if not process_identity().start_ticks:
        pytest.skip("this system does not say when a process started")
    path = write_segment(tmp_path, 0, b"", process_identity()._replace(start_ticks=1))
    assert is_gone(path)


def _assert(holds: bool) -> None:
    assert holds


def test_a_frame_takes_no_more_than_its_header_beside_the_payload() -> None:
    assert FRAME_HEADER_BYTES == 24
    assert len(frame(b"12345", FIRST)) == 29
