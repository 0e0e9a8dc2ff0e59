"""A segment file in the process that writes it, of both kinds: what `write` and its neighbours promise."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    BELL_AT,
    HEADER_BYTES,
    STORED_AT,
    SegmentHeader,
    segment_name,
    unpack_dropped,
    unpack_header,
)
from hush_core.journal.segment import (
    FREE_PREFIX,
    Segment,
    open_segment,
    stored_offset,
    writer_awake_until,
)
from hush_core.system import FILES, Files, process_identity

CAPACITY = 64 * 1024
HEADER = SegmentHeader(0, b"sixteen bytes id", 3, process_identity(), 1000, 0)
NAME = segment_name(HEADER.journal_id, HEADER.number)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    FILES.make_directory(tmp_path / "traces.db.journal")
    return tmp_path / "traces.db.journal"


@pytest.fixture
def segment(kind: type[Files], directory: Path) -> Iterator[Segment]:
    opened = open_segment(kind(), directory, HEADER, CAPACITY)
    yield opened
    opened.release()


def content(directory: Path) -> bytes:
    """What another process would read after the header, up to the zeros."""
    return (directory / NAME).read_bytes()[HEADER_BYTES:].rstrip(b"\0")


# -- writing ----------------------------------------------------------------------------------------------------------


def test_what_was_written_is_in_the_file_when_write_returns(segment: Segment, directory: Path) -> None:
    segment.write(b"first")
    assert content(directory) == b"first"
    segment.write(b"second")
    assert content(directory) == b"firstsecond"


def test_the_position_is_behind_the_last_write(segment: Segment) -> None:
    assert segment.position() == HEADER_BYTES
    segment.write(b"x" * 100)
    assert segment.position() == HEADER_BYTES + 100


def test_a_write_that_fits_exactly_is_taken_and_one_byte_more_is_not(segment: Segment, directory: Path) -> None:
    segment.write(b"x" * (CAPACITY - HEADER_BYTES - 1))
    with pytest.raises(ValueError):
        segment.write(b"yy")
    segment.write(b"z")
    with pytest.raises(ValueError):
        segment.write(b"!")
    assert content(directory) == b"x" * (CAPACITY - HEADER_BYTES - 1) + b"z"


def test_nothing_of_what_does_not_fit_is_in_the_file(segment: Segment, directory: Path) -> None:
    segment.write(b"kept")
    with pytest.raises(ValueError):
        segment.write(b"x" * CAPACITY)
    assert content(directory) == b"kept"
    segment.write(b" and more")
    assert content(directory) == b"kept and more"


def test_after_close_to_writers_every_write_raises_also_one_that_was_about_to_begin(
    segment: Segment, directory: Path
) -> None:
    about_to = segment.write  # a thread on the hot path has taken it and not called it yet
    segment.write(b"kept")
    segment.close_to_writers()
    for write in (about_to, segment.write, about_to):
        with pytest.raises(ValueError):
            write(b"!")
    assert content(directory) == b"kept"


def test_threads_that_write_while_it_is_closed_either_get_it_in_whole_or_an_error(
    segment: Segment, directory: Path
) -> None:
    started = threading.Barrier(5)
    taken: list[list[bytes]] = [[] for _ in range(4)]

    def write(number: int) -> None:
        started.wait()
        for count in range(400):
            frame = b"%d:%03d;" % (number, count)
            try:
                segment.write(frame)
            except ValueError:
                return
            taken[number].append(frame)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    segment.close_to_writers()
    for thread in threads:
        thread.join()
    found = content(directory).split(b";")[:-1]
    assert sorted(found) == sorted(frame[:-1] for frames in taken for frame in frames)


# -- what app and writer tell each other through the header -----------------------------------------------------------


def tell(directory: Path, at: int, data: bytes) -> None:
    """As the writer process does: through a descriptor of its own."""
    fd = os.open(directory / NAME, os.O_WRONLY)
    os.pwrite(fd, data, at)
    os.close(fd)


def test_the_owner_sees_at_once_what_the_writer_says(segment: Segment, directory: Path) -> None:
    assert segment.bell[BELL_AT] == 1
    assert (stored_offset(segment), writer_awake_until(segment)) == (0, 0.0)
    segment.set_bell(False)
    assert segment.bell[BELL_AT] == 0
    tell(directory, BELL_AT, b"\1")
    tell(directory, STORED_AT, struct.pack("<Q", 12345))
    tell(directory, AWAKE_UNTIL_AT, struct.pack("<d", 98765.5))
    assert segment.bell[BELL_AT] == 1
    assert (stored_offset(segment), writer_awake_until(segment)) == (12345, 98765.5)


def test_counts_of_dropped_records_are_in_the_file_when_published(segment: Segment, directory: Path) -> None:
    segment.publish_dropped([0, 2, 0, 0, 7, 0])
    assert unpack_dropped((directory / NAME).read_bytes()) == {"no permission": 2, "too large": 7}
    assert unpack_header((directory / NAME).read_bytes()).journal_id == HEADER.journal_id


# -- opening ----------------------------------------------------------------------------------------------------------


def test_a_segment_is_private_to_its_owner(segment: Segment, directory: Path) -> None:
    assert stat.S_IMODE(os.stat(directory / NAME).st_mode) == 0o600


def test_another_process_finds_it_locked_until_it_is_released(
    kind: type[Files], directory: Path, in_child: Callable[[Callable[[], None]], None]
) -> None:
    segment = open_segment(kind(), directory, HEADER, CAPACITY)

    def lock(expected: bool) -> None:
        fd = os.open(directory / NAME, os.O_RDWR)
        assert FILES.lock(fd) is expected

    in_child(lambda: lock(False))
    segment.release()
    in_child(lambda: lock(True))


def test_a_mapped_segment_has_its_size_at_once_and_a_plain_one_grows(kind: type[Files], directory: Path) -> None:
    segment = open_segment(kind(), directory, HEADER, CAPACITY)
    header = unpack_header((directory / NAME).read_bytes())
    mapped = kind().can_map(directory)
    assert header.is_mapped is mapped
    assert os.stat(directory / NAME).st_size == (CAPACITY if mapped else HEADER_BYTES)
    segment.release()


class Watchful(Files):
    """Looks at the directory after each call, as a reader might at any instant."""

    def __init__(self, inner: Files) -> None:
        self.inner = inner
        self.looks = 0

    def __getattribute__(self, name: str) -> object:
        if name in ("inner", "looks", "look", "__class__"):
            return object.__getattribute__(self, name)
        call = getattr(self.inner, name)

        def watched(*args: object) -> object:
            result = call(*args)
            self.look(args)
            return result

        return watched

    def look(self, args: tuple[object, ...]) -> None:
        self.looks += 1
        for folder in {arg if arg.is_dir() else arg.parent for arg in args if isinstance(arg, Path)}:
            for path in folder.glob("*.segment"):
                if not path.name.startswith("new-"):
                    unpack_header(path.read_bytes())


def test_a_reader_never_meets_a_segment_without_its_header(kind: type[Files], directory: Path) -> None:
    files = Watchful(kind())
    (directory / f"{FREE_PREFIX}{CAPACITY}-abc").write_bytes(bytes(CAPACITY))
    for number in range(2):  # one that is recycled, where the kind does that, and a new one
        open_segment(files, directory, HEADER._replace(number=number), CAPACITY).release()
    assert files.looks > 5


class Refusing(Files):
    """A disk that refuses some calls."""

    def __init__(self, inner: Files, *calls: str, code: int = errno.ENOSPC) -> None:
        self._inner = inner
        self._calls = calls
        self._code = code

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def _check(self, call: str) -> None:
        if call in self._calls:
            raise OSError(self._code, os.strerror(self._code))

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._check("open")
        return super().open(path, flags, mode)

    def allocate(self, fd: int, size: int) -> None:
        self._check("allocate")
        super().allocate(fd, size)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self._check("write")
        return super().write(fd, data, offset)

    def rename(self, old: Path, new: Path) -> None:
        self._check("rename")
        super().rename(old, new)


def test_without_room_for_a_whole_segment_a_plain_one_is_opened(directory: Path) -> None:
    class Certain(Files):
        def can_map(self, directory: Path) -> bool:
            return True

    segment = open_segment(Refusing(Certain(), "allocate"), directory, HEADER, CAPACITY)
    segment.write(b"still kept")
    assert content(directory) == b"still kept"
    assert not unpack_header((directory / NAME).read_bytes()).is_mapped
    assert os.listdir(directory) == [NAME]
    segment.release()


@pytest.mark.parametrize("call", ["open", "write", "rename"])
def test_when_the_disk_gives_no_segment_at_all_it_raises_and_leaves_no_file(
    kind: type[Files], directory: Path, call: str
) -> None:
    before = open_descriptors()
    with pytest.raises(OSError) as refused:
        open_segment(Refusing(kind(), call), directory, HEADER, CAPACITY)
    assert refused.value.errno == errno.ENOSPC
    assert os.listdir(directory) == []
    assert open_descriptors() == before


def open_descriptors() -> set[str]:
    folder = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    return set(os.listdir(folder))


class Interrupting(Files):
    """Ctrl+C right after one of the calls has done its work."""

    def __init__(self, inner: Files, call: str) -> None:
        self._inner = inner
        self._call = call

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        if self._call == "rename":
            raise KeyboardInterrupt

    def write(self, fd: int, data: bytes, offset: int) -> int:
        done = super().write(fd, data, offset)
        if self._call == "write":
            raise KeyboardInterrupt
        return done


@pytest.mark.parametrize("call", ["rename", "write"])
def test_an_interrupt_while_a_segment_is_made_goes_to_the_caller_as_it_is(
    kind: type[Files], directory: Path, call: str
) -> None:
    before = open_descriptors()
    with pytest.raises(KeyboardInterrupt):
        open_segment(Interrupting(kind(), call), directory, HEADER, CAPACITY)
    assert open_descriptors() == before
    assert not list(directory.glob("new-*"))


# -- a disk that is full, or slow -------------------------------------------------------------------------------------


class ShortWrites(Files):
    """A disk that takes a few bytes at a time, and refuses once its room is used up."""

    def __init__(self, at_once: int, room: int) -> None:
        self.at_once = at_once
        self.room = room

    def can_map(self, directory: Path) -> bool:
        return False

    def write(self, fd: int, data: bytes, offset: int) -> int:
        if offset < HEADER_BYTES:
            return super().write(fd, data, offset)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = super().write(fd, data[: min(self.at_once, self.room)], offset)
        self.room -= done
        return done


def test_a_plain_segment_goes_on_after_short_writes_until_all_is_in(directory: Path) -> None:
    segment = open_segment(ShortWrites(at_once=3, room=1000), directory, HEADER, CAPACITY)
    segment.write(b"a longer frame than three bytes")
    assert content(directory) == b"a longer frame than three bytes"
    segment.release()


def test_after_a_full_disk_the_next_write_takes_the_place_of_what_was_begun(directory: Path) -> None:
    files = ShortWrites(at_once=100, room=10)
    segment = open_segment(files, directory, HEADER, CAPACITY)
    segment.write(b"kept ")
    with pytest.raises(OSError):
        segment.write(b"too much for the disk")
    assert segment.position() == HEADER_BYTES + 5
    files.room = 1000
    segment.write(b"and this one is kept too")
    assert content(directory) == b"kept and this one is kept too"
    segment.release()


# -- descriptors ------------------------------------------------------------------------------------------------------

_WITHOUT_STANDARD_STREAMS = """
import os, sys
from pathlib import Path
from hush_core.journal.segment import open_segment
from hush_core.journal.format import SegmentHeader
from hush_core.system import Files, process_identity

class Kind(Files):
    def can_map(self, directory):
        return sys.argv[2] == "mapped"

for fd in (0, 1, 2):
    os.close(fd)
segment = open_segment(Kind(), Path(sys.argv[1]), SegmentHeader(0, bytes(16), 0, process_identity(), 5, 0), 65536)
os._exit(segment.fd)
"""


def test_a_segment_never_takes_the_number_of_a_standard_stream(kind: type[Files], directory: Path) -> None:
    """Else whatever the app prints, or a library says on descriptor 2, is written over the segment's header."""
    name = "mapped" if kind().can_map(directory) else "plain"
    done = subprocess.run([sys.executable, "-c", _WITHOUT_STANDARD_STREAMS, str(directory), name])
    assert 3 <= done.returncode < 100


def test_a_descriptor_that_the_app_closed_and_reused_is_left_alone(
    kind: type[Files], directory: Path, tmp_path: Path
) -> None:
    """A daemon closes every descriptor it finds; the numbers are its own files' from then on."""
    segment = open_segment(kind(), directory, HEADER, CAPACITY)
    taken = segment.fd
    os.close(taken)
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    if theirs != taken:
        os.dup2(theirs, taken)
    with contextlib.suppress(ValueError):  # a plain segment cannot be written any more; it says so
        segment.write(b"x" * 100)
    segment.release()
    os.fstat(taken)  # raises if it was closed
    assert (tmp_path / "theirs").read_bytes() == b""
    for fd in {theirs, taken}:
        os.close(fd)


# -- recycled files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mapped_files() -> Files:
    class Certain(Files):
        def can_map(self, directory: Path) -> bool:
            return True

    return Certain()


def free_files(directory: Path, count: int) -> None:
    for number in range(count):
        (directory / f"{FREE_PREFIX}{CAPACITY}-{number:016x}").write_bytes(bytes(CAPACITY))


@pytest.mark.skipif(sys.platform != "linux", reason="segments are mapped, and so recycled, on Linux")
class TestRecycling:
    def test_a_free_file_of_the_right_size_is_taken_over(self, mapped_files: Files, directory: Path) -> None:
        free_files(directory, 1)
        inode = next(directory.iterdir()).stat().st_ino
        segment = open_segment(mapped_files, directory, HEADER, CAPACITY)
        assert os.listdir(directory) == [NAME]
        assert os.stat(directory / NAME).st_ino == inode
        segment.release()

    def test_a_free_file_of_another_size_is_left(self, mapped_files: Files, directory: Path) -> None:
        free_files(directory, 1)
        segment = open_segment(mapped_files, directory, HEADER, 2 * CAPACITY)
        assert len(os.listdir(directory)) == 2
        segment.release()

    def test_a_free_file_that_goes_in_between_does_no_harm(self, directory: Path) -> None:
        class Vanishing(Files):
            def can_map(self, directory: Path) -> bool:
                return True

            def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
                if path.name.startswith(FREE_PREFIX):
                    path.unlink()
                return super().open(path, flags, mode)

        free_files(directory, 2)
        segment = open_segment(Vanishing(), directory, HEADER, CAPACITY)
        segment.write(b"kept")
        assert content(directory) == b"kept"
        segment.release()

    def test_processes_that_race_for_free_files_never_get_the_same(self, mapped_files: Files, directory: Path) -> None:
        free_files(directory, 3)
        go_read, go_write = os.pipe()
        children = []
        for number in range(8):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.close(go_write)
                    os.read(go_read, 1)
                    mine = HEADER._replace(journal_id=b"%16d" % number, owner=process_identity())
                    segment = open_segment(mapped_files, directory, mine, CAPACITY)
                    segment.write(b"written by %d" % number)
                    status = 0
                finally:
                    os._exit(status)
            children.append(pid)
        os.close(go_write)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 8
        os.close(go_read)
        paths = sorted(directory.iterdir())
        assert [path.name for path in paths] == [segment_name(b"%16d" % number, 3) for number in range(8)]
        for number, path in enumerate(paths):
            assert path.read_bytes()[HEADER_BYTES:].rstrip(b"\0") == b"written by %d" % number
