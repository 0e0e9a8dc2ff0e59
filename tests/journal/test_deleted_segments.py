"""Somebody deletes the journals' folder under a live app: what no writer has stored of it is appended again."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hush_core.journal import appender
from hush_core.journal.format import HEADER_BYTES, STORED_AT, WRITER_AT
from hush_core.system import Files
from tests.journal.conftest import ORIGIN_PAYLOAD, Journals, read_whole, segment_numbers


def tell(path: Path, at: int, data: bytes) -> None:
    """Write into a segment's header, as the writer does."""
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_what_is_not_stored_of_a_deleted_segment_is_appended_again(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    for number in range(10):
        journal.append(b"%d" % number)
        if number == 3:
            stored = journal.position().offset
    tell(journals.segments()[0], STORED_AT, struct.pack("<Q", stored))
    before = journal.position()
    shutil.rmtree(journals.directory)
    journal.tend(at_once=True)
    assert journals.records(of=journal) == [b"%d" % number for number in range(4, 10)]
    assert segment_numbers(journals.directory) == [1], "the writer goes on behind what it had read"
    assert not journal.is_stored(before)
    tell(journals.segments()[0], STORED_AT, struct.pack("<Q", HEADER_BYTES + 1))
    assert not journal.is_stored(before), "the writer has begun the segment, and has not come to those records"
    tell(journals.segments()[0], STORED_AT, struct.pack("<Q", journal.position().offset))
    assert journal.is_stored(before)
    assert ORIGIN_PAYLOAD in read_whole(journals.segments()[0]), "the database may have been deleted, too"
    assert journals.reports == []


def test_the_next_records_notice_it_when_the_writer_does_not_look(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"0")
    shutil.rmtree(journals.directory)
    for number in range(1, 40):
        journal.append(b"%d" % number)
    assert journals.records(of=journal) == [b"%d" % number for number in range(40)]


def test_a_segment_that_is_full_is_looked_at_before_it_is_left(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appender, "SEGMENT_BYTES", (4096, 4096, 4096))
    journal = journals.open(kind())
    journal.append(b"0" * 3000)
    shutil.rmtree(journals.directory)
    journal.append(b"1" * 3000)
    journal.tend()
    assert sorted(journals.records(of=journal)) == [b"0" * 3000, b"1" * 3000]


def test_a_writer_that_still_reads_the_deleted_segment_is_left_to_store_it(
    journals: Journals, kind: type[Files]
) -> None:
    writer = subprocess.Popen(["sleep", "60"])
    try:
        journal = journals.open(kind())
        journal.append(b"read")
        tell(journals.segments()[0], WRITER_AT, struct.pack("<I", writer.pid))
        before = journal.position()
        shutil.rmtree(journals.directory)
        journal.tend(at_once=True)
        assert journals.records(of=journal) == []
        assert not journal.is_stored(before)
    finally:
        writer.kill()
        writer.wait()
    journal.append(b"next")
    journal.tend()
    assert sorted(journals.records(of=journal)) == [b"next", b"read"]


def test_a_writer_that_has_gone_on_to_the_next_segment_has_stored_the_deleted_one(
    journals: Journals, kind: type[Files]
) -> None:
    journal = journals.open(kind())
    journal.append(b"read")
    tell(journals.segments()[0], WRITER_AT, struct.pack("<I", os.getpid()))
    journals.segments()[0].unlink()
    journal.tend(at_once=True)
    assert journals.records(of=journal) == []
    tell(journals.segments()[0], WRITER_AT, struct.pack("<I", os.getpid()))
    journal.tend()
    assert journals.records(of=journal) == []
    tell(journals.segments()[0], STORED_AT, struct.pack("<Q", journal.position().offset))
    assert journal.is_stored(journal.position())


def test_a_disk_that_refuses_them_gets_them_when_it_has_room(journals: Journals, kind: type[Files]) -> None:
    class Full(kind):  # type: ignore[misc, valid-type]
        is_full = False

        def make_directory(self, path: Path) -> None:
            if self.is_full:
                raise OSError(28, "No space left on device")
            super().make_directory(path)

    files = Full()
    journal = journals.open(files)
    for number in range(5):
        journal.append(b"%d" % number)
    shutil.rmtree(journals.directory)
    files.is_full = True
    journal.tend(at_once=True)
    assert journals.reports == [("OSError", f"writing the journal in {journals.directory}")]
    assert not journal.is_stored(journal.position())
    files.is_full = False
    journal.append(b"5")
    journal.tend()
    assert sorted(journals.records(of=journal)) == [b"%d" % number for number in range(6)]
    assert journal.dropped == {}


def test_a_child_is_forked_meanwhile(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"parent")
    tell(journals.segments()[0], WRITER_AT, struct.pack("<I", os.getpid()))
    shutil.rmtree(journals.directory)
    journal.tend(at_once=True)
    pid = os.fork()
    if not pid:
        journal.append(b"child")
        os._exit(0 if journals.records() == [b"child"] and not journal._deleted else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_deleted_segment_that_cannot_be_read_does_not_silence_the_doorbell(
    journals: Journals, kind: type[Files]
) -> None:
    class Broken(kind):  # type: ignore[misc, valid-type]
        def read(self, fd: int, size: int, offset: int) -> bytes:
            raise OSError(5, "Input/output error")

    journal = journals.open(Broken())
    journal.append(b"0")
    journals.segments()[0].unlink()
    journals.rings = 0
    for _ in range(5):
        journal.tend(at_once=True)
    assert journals.rings == 5
    assert journals.reports == [("OSError", f"writing the journal in {journals.directory}")]
    assert not journal.is_stored(journal.position())
