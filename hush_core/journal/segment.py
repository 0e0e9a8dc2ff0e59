"""A segment file in the process that writes it: mapped where the disk's blocks are certain, else through write(2).

Both kinds offer the same few operations. `write` raises ValueError when the frame does not fit or the segment was
closed to writers; nothing of the frame is in the file then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import threading
from pathlib import Path
from typing import Final, Protocol

from hush_core.errors import JournalError
from hush_core.interrupt import is_interrupt
from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    BELL_AT,
    DROPPED_AT,
    ENDED_AT,
    HEADER_BYTES,
    STORED_AT,
    WRITER_AT,
    SegmentHeader,
    pack_dropped,
    pack_header,
    segment_name,
)
from hush_core.system import Files, Mapping

FREE_PREFIX: Final = "free-"
UNFINISHED_PREFIX: Final = "new-"


class Segment(Protocol):
    """What the appender needs of a segment."""

    number: int
    fd: int
    bell: Mapping

    def write(self, frame: bytes, /) -> object: ...
    def close_to_writers(self) -> None: ...
    def is_closed(self) -> bool: ...
    def position(self) -> int: ...
    def is_deleted(self) -> bool: ...
    def unstored(self) -> bytes: ...
    def content(self, start: int) -> bytes: ...
    def set_bell(self, armed: bool) -> None: ...
    def publish_dropped(self, counts: list[int]) -> None: ...
    def sync(self) -> None: ...
    def disown(self) -> None: ...
    def release(self) -> None: ...


class _SegmentFile:
    """What both kinds share: the descriptor, whose lock says that the owner lives, and the header page."""

    def __init__(self, files: Files, fd: int, number: int, bell: Mapping) -> None:
        self._files = files
        self._identity = files.identity(fd)
        self.fd = fd
        self.number = number
        self.bell = bell

    def _has_descriptor(self) -> bool:
        """Whether the descriptor is still this file's. A daemon closes all that it finds, and reuses their numbers."""
        try:
            return self._files.identity(self.fd) == self._identity
        except OSError as problem:
            if is_interrupt(problem):
                raise
            return False

    def is_deleted(self) -> bool:
        """Whether somebody has deleted the file: a writer that starts now does not find it."""
        try:
            return self._has_descriptor() and self._files.is_deleted(self.fd)
        except OSError as problem:
            if is_interrupt(problem):
                raise
            return False

    def unstored(self) -> bytes:
        """The bytes behind what the writer has stored. Raises OSError if they cannot be read."""
        return self.content(max(stored_offset(self), HEADER_BYTES))

    def content(self, start: int) -> bytes:
        """The bytes from an offset on. Raises OSError if they cannot be read."""
        if not self._has_descriptor():
            raise OSError(errno.EBADF, "the app has closed the journal's descriptor")
        return self._files.read(self.fd, max(self._files.size(self.fd) - start, 0), start)

    def sync(self) -> None:
        """When this returns, what was written survives a power cut. Raises OSError if that cannot be had."""
        if not self._has_descriptor():
            raise OSError(errno.EBADF, "the app has closed the journal's descriptor")
        self._files.sync(self.fd)

    def release(self) -> None:
        """Give up the descriptor, and the lock with it. A mapping stays until the last thread lets go of it."""
        if self._has_descriptor():
            fd, self.fd = self.fd, -1  # a signal handler may come here in between: nothing is closed twice
            self._files.close(fd)
        elif self.fd >= 0:
            # The mapping's own duplicate was closed with it, and its number may be the app's file now: a mapping that
            # is let go of closes it.
            _never_let_go.append(self.bell)


class MappedSegment(_SegmentFile):
    """A segment of allocated blocks in a mapping. `write` is `mmap.write`: one copy, atomic under the GIL, no system
    call.

    When `write` returns, the frame is in the page cache and survives the death of the process.
    """

    def __init__(self, files: Files, fd: int, number: int, size: int) -> None:
        mapping = files.map(fd, size)
        super().__init__(files, fd, number, mapping)
        self._mapping = mapping
        mapping.seek(HEADER_BYTES)
        self.write = mapping.write

    def close_to_writers(self) -> None:
        """After this, every `write` raises ValueError, also in a thread that is about to call it."""
        end = self._mapping.tell()
        self._mapping.seek(0, os.SEEK_END)
        if end < self._mapping.tell():  # else it was closed before
            self._mapping[ENDED_AT : ENDED_AT + _U32.size] = _U32.pack(end)

    def is_closed(self) -> bool:
        """Whether it takes no frame any more. Then `position` is no place behind its last one."""
        return self._mapping.tell() >= len(self._mapping)

    def disown(self) -> None:
        """In a forked child: the file is the parent's. As `close_to_writers`, for this process alone."""
        self._mapping.seek(0, os.SEEK_END)

    def position(self) -> int:
        return self._mapping.tell()  # type: ignore[no-any-return, unused-ignore]

    def set_bell(self, armed: bool) -> None:
        self._mapping[BELL_AT] = int(armed)

    def publish_dropped(self, counts: list[int]) -> None:
        packed = pack_dropped(counts)
        self._mapping[DROPPED_AT : DROPPED_AT + len(packed)] = packed


class PlainSegment(_SegmentFile):
    """A segment that grows by write(2), where a mapping could end in SIGBUS. Slower, never unsafe.

    When `write` returns, the frame is in the page cache and survives the death of the process. It raises OSError when
    the disk is full; the next write goes to the same place, over what a short write left.
    """

    def __init__(self, files: Files, fd: int, number: int, limit: int) -> None:
        super().__init__(files, fd, number, files.map_readonly(fd, HEADER_BYTES))
        self._limit = limit
        self._end = HEADER_BYTES
        self._lock = threading.RLock()

    def write(self, frame: bytes) -> int:
        size = len(frame)
        with self._lock:
            if self._end + size > self._limit or not self._has_descriptor():
                raise ValueError("the segment is full or closed")
            # The place is taken before it is written, and with no call in between: so a signal handler that records
            # here gets the place behind.
            start = self._end
            self._end = end = start + size
            try:
                if end > self._limit:
                    raise ValueError("a signal handler took the last place")
                self._write_whole(frame, start)
            except OSError as problem:
                if is_interrupt(problem):
                    self._limit = 0  # as below
                    raise
                self._end, self._limit = (start, self._limit) if self._end == end else (self._end, 0)
                raise
            except BaseException:
                self._limit = 0  # the frame may be whole and read already, or a hole: nothing may follow it here
                raise
            return size

    def _write_whole(self, frame: bytes, start: int) -> None:
        done = 0
        while done < len(frame):
            done += self._files.write(self.fd, frame[done:], start + done)

    def close_to_writers(self) -> None:
        with self._lock:
            self._limit = 0
            try:
                self._tell(ENDED_AT, _U32.pack(self._end))
            except OSError as problem:  # it serves to tell damage, later; the disk may be what is wrong
                if is_interrupt(problem):
                    raise

    def is_closed(self) -> bool:
        """Whether it takes no frame any more."""
        return self._limit == 0

    def disown(self) -> None:
        """In a forked child: the file is the parent's. Takes no lock, which a thread of the parent may have held."""
        self._limit = 0
        self._lock = threading.RLock()

    def position(self) -> int:
        return self._end

    def set_bell(self, armed: bool) -> None:
        self._tell(BELL_AT, b"\1" if armed else b"\0")

    def publish_dropped(self, counts: list[int]) -> None:
        self._tell(DROPPED_AT, pack_dropped(counts))

    def _tell(self, at: int, data: bytes) -> None:
        with self._lock:
            if self._has_descriptor():
                self._files.write(self.fd, data, at)

    def release(self) -> None:
        """As of every segment. No thread is in the middle of a write: the number of the descriptor may be reused."""
        with self._lock:
            super().release()


#: Mappings that must not be let go of, see `_SegmentFile.release`.
_never_let_go: Final[list[Mapping]] = []
_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_F64: Final = struct.Struct("<d")


def stored_offset(segment: Segment | _SegmentFile) -> int:
    """How far the writer has stored this segment, bytes; 0 if it has not begun."""
    (offset,) = _U64.unpack_from(segment.bell, STORED_AT)
    return int(offset)


def writer_awake_until(segment: Segment) -> float:
    """Until which time.monotonic() the writer promised to look at this segment again without being rung."""
    (until,) = _F64.unpack_from(segment.bell, AWAKE_UNTIL_AT)
    return float(until)


def writer_pid(segment: Segment) -> int:
    """The process id of the writer that looked at this segment last; 0 if none has."""
    (pid,) = _U32.unpack_from(segment.bell, WRITER_AT)
    return int(pid)


def open_segment(files: Files, directory: Path, header: SegmentHeader, capacity: int) -> Segment:
    """Make a journal's next segment: one that the writer made ahead if there is one, else a new one.

    When this returns, the file is locked, has its header and its final name and, if it is mapped, its blocks.
    Raises OSError if the disk gives none of it; no file of that name is left then.
    """
    if not files.can_map(directory):
        return _open_plain(files, directory, header, capacity)
    header = header._replace(size=capacity)
    try:
        fd = _claim_free(files, directory, header) or _create(files, directory, header)
    except OSError as problem:
        if is_interrupt(problem):
            raise
        # No room for a whole segment. Smaller writes may still fit; each one says so by itself when it does not.
        return _open_plain(files, directory, header, capacity)
    return _of_file(MappedSegment, files, fd, header.number, capacity)


def _open_plain(files: Files, directory: Path, header: SegmentHeader, capacity: int) -> Segment:
    fd = _create(files, directory, header._replace(size=0))
    return _of_file(PlainSegment, files, fd, header.number, capacity)


def _of_file(
    kind: type[MappedSegment | PlainSegment], files: Files, fd: int, number: int, capacity: int
) -> MappedSegment | PlainSegment:
    try:
        return kind(files, fd, number, capacity)
    except BaseException:
        files.close(fd)
        raise


def _final_path(directory: Path, header: SegmentHeader) -> Path:
    return directory / segment_name(header.journal_id, header.number)


def _create(files: Files, directory: Path, header: SegmentHeader) -> int:
    """A new file. It gets its final name only when whole, so that a reader never meets one without a header."""
    final = _final_path(directory, header)
    unfinished = directory / f"{UNFINISHED_PREFIX}{final.name}"
    fd = files.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        if header.is_mapped:
            files.allocate(fd, header.size)
        _finish(files, fd, unfinished, final, header)
    except BaseException:
        files.close(fd)
        # It may have its final name already; the interrupt that came right then must reach the caller.
        with contextlib.suppress(FileNotFoundError):
            files.unlink(unfinished)
        raise
    return fd


def _finish(files: Files, fd: int, unfinished: Path, final: Path, header: SegmentHeader) -> None:
    if not files.lock(fd):
        raise JournalError(f"another process holds the lock of {unfinished}")
    page = pack_header(header)
    if files.write(fd, page, 0) != len(page):
        raise OSError(errno.ENOSPC, "No space left on device")  # a short write says so only at the next one
    files.rename(unfinished, final)


def _claim_free(files: Files, directory: Path, header: SegmentHeader) -> int | None:
    """Take over a file that the writer made ahead. Two processes cannot take the same: the file's lock decides."""
    prefix = f"{FREE_PREFIX}{header.size}-"
    for name in files.list(directory):
        if not name.startswith(prefix):
            continue
        free = directory / name
        try:
            fd = files.open(free, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            # The name may have gone to another process between the open and the lock: then the inode is not ours.
            if files.lock(fd) and os.path.exists(free) and os.path.samestat(os.stat(free), os.fstat(fd)):
                _finish(files, fd, free, _final_path(directory, header), header)
                return fd
        except FileNotFoundError:
            pass  # the writer removed it from the pool in between; the next one, or a new file
        except BaseException:
            files.close(fd)
            raise
        files.close(fd)
    return None
