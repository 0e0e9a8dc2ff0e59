"""Segments made ahead: a few, only where there is room, and given back when nobody needs them."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from hush_core.journal.format import HEADER_BYTES, SegmentHeader, segment_name
from hush_core.journal.pool import POOL_FILES, drain_pool, replenish
from hush_core.journal.segment import FREE_PREFIX, UNFINISHED_PREFIX, MappedSegment, open_segment
from hush_core.system import Files, process_identity
from tests.journal.conftest import MappedFiles, PlainFiles

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="segments are mapped, and so made ahead, on Linux")

SIZE = 256 * 1024
HEADER = SegmentHeader(0, b"sixteen bytes id", 0, process_identity(), 1000, 0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "journal").mkdir()
    return tmp_path / "journal"


def test_a_segment_made_ahead_is_whole_empty_and_private(directory: Path) -> None:
    assert replenish(MappedFiles(), directory, SIZE)
    (path,) = directory.iterdir()
    assert path.name.startswith(f"{FREE_PREFIX}{SIZE}-")
    assert path.read_bytes() == bytes(SIZE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_blocks * 512 >= SIZE  # it has its blocks: writing to its pages cannot fail


def test_the_next_segment_takes_it(directory: Path) -> None:
    replenish(MappedFiles(), directory, SIZE)
    inode = next(directory.iterdir()).stat().st_ino
    segment = open_segment(MappedFiles(), directory, HEADER, SIZE)
    assert isinstance(segment, MappedSegment)
    segment.write(b"kept")
    (path,) = directory.iterdir()
    assert (path.name, path.stat().st_ino) == (segment_name(HEADER.journal_id, 0), inode)
    assert path.read_bytes()[HEADER_BYTES:].rstrip(b"\0") == b"kept"
    segment.release()


def test_only_a_few_are_made(directory: Path) -> None:
    made = [replenish(MappedFiles(), directory, SIZE) for _ in range(POOL_FILES + 2)]
    assert made == [True] * POOL_FILES + [False] * 2
    assert len(list(directory.iterdir())) == POOL_FILES


def test_none_is_made_where_segments_are_not_mapped(directory: Path) -> None:
    assert not replenish(PlainFiles(), directory, SIZE)
    assert list(directory.iterdir()) == []


def test_none_is_made_on_a_disk_that_is_short_of_room(directory: Path) -> None:
    class Full(MappedFiles):
        def free_bytes(self, directory: Path) -> int:
            return 3 * SIZE

    assert not replenish(Full(), directory, SIZE)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("call", ["open", "allocate", "write", "rename"])
def test_a_disk_that_refuses_is_told_and_nothing_is_left(directory: Path, call: str) -> None:
    files: Files = MappedFiles()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    setattr(files, call, refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        replenish(files, directory, SIZE)
    assert list(directory.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_draining_gives_all_of_it_back_and_leaves_the_rest(directory: Path) -> None:
    for _ in range(2):
        replenish(MappedFiles(), directory, SIZE)
    segment = open_segment(MappedFiles(), directory, HEADER, SIZE)
    for name, age_s in (("old", 3600), ("young", 0)):
        path = directory / f"{UNFINISHED_PREFIX}{name}"
        path.touch()
        long_ago = path.stat().st_mtime - age_s
        os.utime(path, (long_ago, long_ago))
    drain_pool(MappedFiles(), directory)
    left = sorted(path.name for path in directory.iterdir())
    assert left == sorted([segment_name(HEADER.journal_id, 0), f"{UNFINISHED_PREFIX}young"])
    segment.release()


def test_an_app_that_takes_one_while_the_pool_is_drained_gets_a_segment_all_the_same(directory: Path) -> None:
    files = MappedFiles()
    ended = threading.Event()

    def fill_and_drain() -> None:
        while not ended.is_set():
            replenish(files, directory, SIZE)
            drain_pool(files, directory)

    thread = threading.Thread(target=fill_and_drain)
    thread.start()
    for number in range(200):
        segment = open_segment(files, directory, HEADER._replace(number=number), SIZE)
        segment.write(b"segment %d" % number)
        segment.release()
    ended.set()
    thread.join()
    drain_pool(files, directory)
    for number, path in enumerate(sorted(directory.iterdir())):
        assert path.name == segment_name(HEADER.journal_id, number)
        assert path.read_bytes()[HEADER_BYTES:].rstrip(b"\0") == b"segment %d" % number
