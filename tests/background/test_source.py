"""One journal as the writer drains it: what comes next, when a segment is final, what is set aside and counted."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hush_core.background.source import Source, retire_segment
from hush_core.journal.appender import SEGMENT_BYTES
from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    BELL_AT,
    FAULT_AT,
    FRAME_HEADER_BYTES,
    FRAME_MAGIC_BYTES,
    HEADER_BYTES,
    SET_ASIDE,
    STORED_AT,
)
from hush_core.journal.reader import segments
from hush_core.store.sqlite import JournalState
from hush_core.system import FILES, Files
from tests.journal.conftest import ORIGIN_PAYLOAD, Journals, run_in_child

Open = Callable[..., Source]


@pytest.fixture
def opened(journals: Journals) -> Iterator[Open]:
    """Opens the one journal of the directory, as the writer does when it finds it."""
    sources = []

    def open_source(state: JournalState | None = None) -> Source:
        ((journal_id, numbers),) = segments(FILES, journals.directory).items()
        sources.append(Source(FILES, journals.directory, journal_id, numbers, state))
        return sources[-1]

    yield open_source
    for source in sources:
        source.close()


def learn(source: Source, journals: Journals) -> None:
    source.learn(segments(FILES, journals.directory)[bytes.fromhex(source.name)])


def drain(source: Source, **options: bool) -> list[bytes]:
    """Step and advance until nothing comes any more, and give the app's records."""
    found: list[bytes] = []
    while (step := source.step(**options)) is not None:
        found += [payload for payload in step.slice.payloads if payload != ORIGIN_PAYLOAD]
        source.advance(step)
    return found


def record_and_end(journals: Journals, kind: type[Files], records: list[bytes]) -> None:
    """A process that records and is gone."""

    def work() -> None:
        journal = journals.open(kind())
        for record in records:
            journal.append(record)

    run_in_child(work)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def offset_of(path: Path, payload: bytes) -> int:
    """Where the frame of a payload begins."""
    return path.read_bytes().index(payload) - FRAME_HEADER_BYTES


# -- draining ---------------------------------------------------------------------------------------------------------


def test_records_come_once_in_order_over_all_segments(journals: Journals, kind: type[Files], opened: Open) -> None:
    journal = journals.open(kind())
    journal.append(b"0")
    source = opened()
    assert drain(source) == [b"0"]
    expected = [b"%d %s" % (number, b"x" * 30_000) for number in range(40)]
    found = []
    for record in expected:
        journal.append(record)
        learn(source, journals)
        found += drain(source)
    assert found == expected
    assert len(journals.segments()) > 1
    assert drain(source) == []
    assert source.state.highest == journal.first_sequence + 40


def test_a_step_that_was_not_stored_is_stepped_again(journals: Journals, kind: type[Files], opened: Open) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    source = opened()
    first, second = source.step(), source.step()
    assert first is not None
    assert second is not None
    assert first.slice == second.slice
    assert first.slice.state is not second.slice.state


def test_how_far_the_owner_has_come_is_told_in_one_segment_and_over_several(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    source = opened()
    assert source.written() == journal.position()
    for size in (10, 400_000, 10):  # the second needs the next segment
        journal.append(b"x" * size)
    learn(source, journals)
    assert source.written() == journal.position() > (source.state.segment, source.state.offset)
    drain(source)
    assert source.written() == journal.position() == (source.state.segment, source.state.offset)


def test_the_next_writer_goes_on_at_the_stored_position(journals: Journals, kind: type[Files], opened: Open) -> None:
    journal = journals.open(kind())
    journal.append(b"one")
    source = opened()
    assert drain(source) == [b"one"]
    journal.append(b"two")
    assert drain(opened(source.state)) == [b"two"]


def test_a_stored_segment_that_was_not_given_up_is_told(journals: Journals, kind: type[Files], opened: Open) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    journal.append(b"x" * 400_000)
    source = opened()
    drain(source)
    numbers = segments(FILES, journals.directory)[bytes.fromhex(source.name)]
    assert numbers == [0, 1]
    assert opened(source.state).stored_already(numbers) == journals.segments()[:1]


def test_a_journal_whose_stored_segment_is_gone_goes_on_in_the_next(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    journal.append(b"y" * 400_000)
    source = opened()
    step = source.step()
    assert step is not None
    source.advance(step)
    journals.segments()[0].unlink()
    assert drain(opened(source.state)) == [b"y" * 400_000]


def test_a_live_segment_is_not_left_before_there_is_a_later_one(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    source = opened()
    drain(source)
    assert source.step() is None
    journal.append(b"y" * 400_000)
    learn(source, journals)
    step = source.step()
    assert step is not None
    assert (step.slice.payloads, step.finished) == ([], [0])
    assert source.advance(step) == journals.segments()[:1]


def test_a_journal_is_drained_once_its_process_has_ended(journals: Journals, kind: type[Files], opened: Open) -> None:
    record_and_end(journals, kind, [b"one", b"two"])
    source = opened()
    assert source.check_owner()
    assert not source.is_drained()
    assert drain(source) == [b"one", b"two"]
    assert source.is_drained()
    assert source.files() == journals.segments()


def test_a_segment_that_came_after_the_last_list_is_found_before_the_journal_ends(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    """The process rolls and dies between the writer's list of the directory and its look at the process."""
    read_end, write_end = os.pipe()
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            journal = journals.open(kind())
            journal.append(b"one")
            os.write(write_end, b"!")
            os.read(go_read, 1)
            journal.append(b"two" * 200_000)
            status = 0
        finally:
            os._exit(status)
    os.read(read_end, 1)
    source = opened()  # knows one segment
    os.write(go_write, b"!")
    os.waitpid(pid, 0)
    assert source.check_owner()
    assert drain(source) == [b"one", b"two" * 200_000]
    for fd in (read_end, write_end, go_read, go_write):
        os.close(fd)


def test_a_journal_whose_first_segments_another_database_has_is_counted_from_the_first_record_that_is_here(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    for size in (10, 20, 400_000, 10, 20):  # the third needs the next segment
        journal.append(b"x" * size)
    before = opened()
    drain(before)
    journals.segments()[0].unlink()
    source = opened()
    assert [len(payload) for payload in drain(source)] == [400_000, 10, 20]
    state = source.state
    assert (state.first, state.elsewhere, state.highest) == (before.state.first, 2, before.state.highest)
    assert state.set_aside == 0
    journal.append(b"y")
    later = opened(state)
    assert drain(later) == [b"y"]
    assert later.state.elsewhere == 2


def test_damage_at_its_very_beginning_does_not_count_what_another_database_has(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    def work() -> None:
        journal = journals.open(kind())
        for size in (10, 20, 400_000, 10, 20):
            journal.append(b"x" * size)

    run_in_child(work)
    first, second = journals.segments()
    first.unlink()
    overwrite(second, HEADER_BYTES + 100, b"damage")
    source = opened()
    source.check_owner()
    assert [len(payload) for payload in drain(source)] == [10, 20]
    assert (source.state.elsewhere, source.state.set_aside) == (3, 0)


# -- damage -----------------------------------------------------------------------------------------------------------

RECORDS = [b"record %d %s" % (number, b"x" * 100) for number in range(10)]


@pytest.mark.parametrize(
    "damage", [b"\xff" * 40, b"\0" * 40, FRAME_MAGIC_BYTES * 10], ids=["garbage", "zeros", "magic"]
)
def test_damage_in_a_dead_journal_costs_the_record_it_hit_which_is_set_aside_and_counted(
    journals: Journals, kind: type[Files], opened: Open, damage: bytes
) -> None:
    record_and_end(journals, kind, RECORDS)
    (path,) = journals.segments()
    overwrite(path, offset_of(path, RECORDS[4]), damage)
    source = opened()
    source.check_owner()
    assert drain(source) == RECORDS[:4] + RECORDS[5:]
    assert (source.state.set_aside, source.is_drained()) == (1, True)
    (kept,) = (journals.directory / SET_ASIDE).iterdir()
    assert RECORDS[4][40 - FRAME_HEADER_BYTES :] in kept.read_bytes()


def test_a_torn_record_at_the_end_of_a_dead_journal_was_never_returned_and_is_not_counted(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    record_and_end(journals, kind, RECORDS)
    (path,) = journals.segments()
    at = offset_of(path, RECORDS[9])
    overwrite(path, at + 60, b"\0" * (FRAME_HEADER_BYTES + len(RECORDS[9]) - 60))
    source = opened()
    source.check_owner()
    assert drain(source) == RECORDS[:9]
    assert (source.state.set_aside, source.is_drained()) == (0, True)


def test_a_frame_that_a_live_process_is_copying_this_instant_is_waited_for(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    for record in RECORDS:
        journal.append(record)
    (path,) = journals.segments()
    at = offset_of(path, RECORDS[9])
    whole = path.read_bytes()[at : at + FRAME_HEADER_BYTES + len(RECORDS[9])]
    overwrite(path, at, whole[:50] + bytes(len(whole) - 50))
    source = opened()
    assert drain(source) == RECORDS[:9]
    assert source.step(look_behind_damage=True) is None
    overwrite(path, at, whole)
    assert drain(source) == RECORDS[9:]
    assert source.state.set_aside == 0


def test_damage_in_a_live_journal_is_stepped_over_only_when_it_is_looked_behind(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    for record in RECORDS:
        journal.append(record)
    (path,) = journals.segments()
    overwrite(path, offset_of(path, RECORDS[4]), b"\xff" * 30)
    source = opened()
    assert drain(source) == RECORDS[:4]
    assert drain(source, look_behind_damage=True) == RECORDS[5:]
    assert source.state.set_aside == 1


def test_stepping_over_the_same_damage_twice_keeps_it_once(journals: Journals, kind: type[Files], opened: Open) -> None:
    record_and_end(journals, kind, RECORDS)
    (path,) = journals.segments()
    overwrite(path, offset_of(path, RECORDS[4]), b"\xff" * 30)
    source = opened()
    source.check_owner()
    step = source.step()
    assert step is not None
    source.advance(step)
    assert source.step() is not None  # not stored: the transaction failed
    assert drain(source) == RECORDS[5:]
    assert len(list((journals.directory / SET_ASIDE).iterdir())) == 1


def test_a_record_that_cannot_be_read_is_kept_whole_and_once(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journals.open(kind()).append(b"x")
    source = opened()
    for _ in range(2):
        source.keep_refused(b"a newer hush's")
    (kept,) = (journals.directory / SET_ASIDE).iterdir()
    assert kept.read_bytes() == b"a newer hush's"


class Stingy(Files):
    """Writes a few bytes at a time, and notes what it was asked to keep."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self.calls.append("write")
        return super().write(fd, data[:7], offset)

    def sync(self, fd: int) -> None:
        self.calls.append("sync")
        super().sync(fd)

    def sync_directory(self, directory: Path) -> None:
        self.calls.append(f"sync {directory.name}")
        super().sync_directory(directory)


def test_what_is_set_aside_is_whole_and_on_the_disk_whatever_a_write_takes_at_once(
    journals: Journals, kind: type[Files]
) -> None:
    record_and_end(journals, kind, RECORDS)
    (path,) = journals.segments()
    overwrite(path, offset_of(path, RECORDS[4]), b"\xff" * 30)
    ((journal_id, numbers),) = segments(FILES, journals.directory).items()
    files = Stingy()
    source = Source(files, journals.directory, journal_id, numbers, None)
    source.check_owner()
    drain(source)
    source.keep_refused(RECORDS[0])
    source.close()
    kept = {path.suffix: path.read_bytes() for path in (journals.directory / SET_ASIDE).iterdir()}
    assert kept[".record"] == RECORDS[0]
    assert kept[".bytes"] == b"\xff" * 30 + RECORDS[4][30 - FRAME_HEADER_BYTES :]
    synced = ["sync", f"sync {SET_ASIDE}", f"sync {journals.directory.name}"]
    assert [call for call in files.calls if call != "write"] == synced * 2
    assert files.calls[-3:] == synced


# -- telling the owner ------------------------------------------------------------------------------------------------


def test_the_owner_hears_what_the_writer_tells(journals: Journals, kind: type[Files], opened: Open) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    position = journal.position()
    source = opened()
    drain(source)
    source.publish_stored()
    source.promise(123.5)
    source.arm_bell()
    (path,) = journals.segments()
    page = path.read_bytes()[:HEADER_BYTES]
    assert struct.unpack_from("<Q", page, STORED_AT) == (position.offset,)
    assert struct.unpack_from("<d", page, AWAKE_UNTIL_AT) == (123.5,)
    assert (page[BELL_AT], page[FAULT_AT]) == (1, 0)
    assert journal.is_stored(position)
    source.report_fault()
    journal.append(b"y")
    journal.append(b"z")
    assert len(journals.segments()) == 2


def test_the_owner_knows_who_reads_a_segment_before_anything_of_it_is_read(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    opened()
    assert journal.writer == os.getpid()
    journals.segments()[0].unlink()
    journal.tend(at_once=True)
    assert journals.records(of=journal) == [], "it would be stored twice"


def test_a_dead_owner_is_told_nothing(journals: Journals, kind: type[Files], opened: Open) -> None:
    record_and_end(journals, kind, [b"x"])
    source = opened()
    source.check_owner()
    (path,) = journals.segments()
    before = path.read_bytes()
    source.publish_stored()
    source.arm_bell()
    source.report_fault()
    assert path.read_bytes() == before


def test_counts_of_what_was_dropped_come_with_the_next_step_and_at_the_end(
    journals: Journals, kind: type[Files], opened: Open
) -> None:
    def work() -> None:
        journal = journals.open(kind())
        journal.append(b"x")
        journal.drop("disk full")
        journal.append(b"y")
        journal.drop("other")

    run_in_child(work)
    source = opened()
    source.check_owner()
    drain(source)
    assert source.final_state().dropped == {"disk full": 1, "other": 1}


# -- giving up segments -----------------------------------------------------------------------------------------------


def test_a_small_segment_is_deleted_when_it_is_given_up(journals: Journals, kind: type[Files]) -> None:
    journals.open(kind()).append(b"x")
    (path,) = journals.segments()
    assert path.stat().st_size < SEGMENT_BYTES[-1]
    retire_segment(FILES, path)
    assert journals.segments() == []


def test_giving_up_what_is_gone_already_does_nothing(journals: Journals, kind: type[Files]) -> None:
    journals.open(kind()).append(b"x")
    (path,) = journals.segments()
    path.unlink()
    retire_segment(FILES, path)
