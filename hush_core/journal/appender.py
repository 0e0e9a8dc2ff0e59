"""The journal in the app's process: `append`.

The hot path is one closure, `append`: a sequence number, a frame, one `mmap.write`. No lock, because each of these is
one C call that the GIL makes atomic; so no thread waits for another, a signal handler or a finalizer that records in
the middle of an append cannot deadlock, and a fork finds no lock held. Whatever does not fit takes the slow path.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from struct import error as StructError
from time import monotonic, time_ns
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from hush_core.interrupt import is_interrupt
from hush_core.journal.format import (
    BELL_AT,
    DROP_REASONS,
    FAULT_AT,
    FRAME_HEADER,
    FRAME_MAGIC,
    HEADER_BYTES,
    SegmentHeader,
    frames,
)
from hush_core.journal.refusal import Refusal, drop_reason
from hush_core.journal.segment import Segment, open_segment, stored_offset, writer_awake_until, writer_pid
from hush_core.system import FILES, Files, Mapping, is_running, process_identity

#: A journal's segments grow: a short script pays for little, a busy server rolls seldom.
SEGMENT_BYTES: Final = (256 * 1024, 1024 * 1024, 8 * 1024 * 1024)
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
#: How often, in records, `append` looks whether the writer keeps its promise: one who records more slowly than it stays
#: awake after a record (0.1 s) meets an armed bell instead.
_TEND_EVERY: Final = 16
#: More records than one process can append: a sequence further from the journal's first is another journal's.
_SEQUENCES: Final = 1 << 48


class Position(NamedTuple):
    """A place in a journal: everything appended before it is before it."""

    segment: int
    offset: int


class Journal:
    """This process's journal of one database.

    `append(payload)`: when it returns, the record survives the death of the process; if the disk cannot take it, the
    loss is counted by reason, and reported once. It never raises but an interrupt (after one, the record may be there
    or not), and never waits for anything but the disk. Safe over threads, signal handlers and forks: a forked child
    opens a journal of its own at its first record.

    :param directory: where segments are; made when first needed.
    :param ring: (whether the bell was armed) called when the writer must be woken or started; must not raise but an
        interrupt. True: nobody has heard it, and it shall be rung again after the next append.
    :param origin: gives the payload of the ORIGIN record that opens each journal.
    :param shrink: (payload, limit_bytes) -> a payload within the limit, for a record above ``max_record_bytes``.
    :param report: (problem, what was being done): the funnel for everything that may not reach the caller.
    :param solved: (what was being done): what was reported of it is long over, the next report is news; must not raise.
    :param power_safe: sync a segment before leaving it, so that `sync_to_disk` need only sync the last one.
    """

    append: Callable[[bytes], None]

    def __init__(
        self,
        directory: Path,
        *,
        ring: Callable[[bool], bool | None],
        origin: Callable[[], bytes],
        shrink: Callable[[bytes, int], bytes],
        report: Callable[[BaseException, str], None],
        solved: Callable[[str], None] = lambda doing: None,
        max_record_bytes: int = MAX_RECORD_BYTES,
        power_safe: bool = False,
        files: Files = FILES,
    ) -> None:
        self.directory = directory
        self._writing = f"writing the journal in {directory}"
        self._ring = ring
        self._origin = origin
        self._shrink = shrink
        self._report = report
        self._solved = solved
        self._max_record_bytes = max_record_bytes
        self._power_safe = power_safe
        self._files = files
        self._begin()
        self.append, self._install = self._build_append()
        _journals.add(self)

    def _begin(self) -> None:
        """A new journal: nothing on disk yet."""
        # Reentrant: a signal handler may record while this thread is in the slow path.
        self._lock = threading.RLock()
        self._segment: Segment | None = None
        self._closed: Segment | None = None  # the last one, until there is a next: its header still takes counts
        self._deleted: list[Segment] = []  # left because somebody deleted them; a writer may be reading them still
        self._again: list[tuple[bytes, int]] = []  # payload and sequence of what was in them and is not stored
        self._is_appending_again = False
        self._again_at = Position(-1, 0)  # behind the last such record, in the segment that it was appended to again
        self._number = -1
        self._header: SegmentHeader | None = None
        self._dropped = [0] * len(DROP_REASONS)
        self._refusal = Refusal(lambda: self._solved(self._writing))
        self._unsynced: Exception | None = None  # why a segment that was left is not safe from a power cut
        self._names_synced = -1
        self._needs_origin = True
        self.first_sequence = int.from_bytes(os.urandom(8), "little") >> 2

    def _build_append(self) -> tuple[Callable[[bytes], None], Callable[[], None]]:
        """The hot path and what switches it to the present segment.

        A closure: its variables are cells, faster to reach than attributes, and this is the one place where it matters.
        """
        pack, checksum = FRAME_HEADER.pack, xxh3_64_intdigest
        write: Callable[[bytes], object] = _no_segment
        bell: Mapping | bytes = _NO_BELL
        next_sequence = count(self.first_sequence).__next__
        append_slowly, tend, mask = self._append_slowly, self.tend, _TEND_EVERY - 1

        def append(payload: bytes) -> None:
            sequence = next_sequence()
            try:
                write(pack(FRAME_MAGIC, len(payload), sequence, checksum(payload, sequence)) + payload)
            except (ValueError, OSError, MemoryError, StructError) as problem:
                if is_interrupt(problem):
                    raise
                append_slowly(payload, sequence)
                return
            if bell[BELL_AT] or not sequence & mask:
                tend()

        def install() -> None:
            nonlocal write, bell, next_sequence
            segment = self._segment
            if segment is None:
                write, bell = _no_segment, _NO_BELL
            else:
                write, bell = segment.write, segment.bell
            if self._number < 0:
                next_sequence = count(self.first_sequence).__next__
            self._next_sequence = next_sequence

        limit = self._max_record_bytes

        def append_within_limit(payload: bytes) -> None:
            if len(payload) > limit:
                append_slowly(payload, next_sequence())
            else:
                append(payload)

        install()
        # A segment of the largest size holds no record above its size, so most limits cost the hot path nothing.
        return (append if limit >= SEGMENT_BYTES[-1] else append_within_limit), install

    # -- the slow path ------------------------------------------------------------------------------------------------

    def _append_slowly(self, payload: bytes, sequence: int) -> None:
        """Append a record that did not fit, or for which there is no segment; count it if that cannot be."""
        try:
            with self._lock:
                if not 0 <= sequence - self.first_sequence < _SEQUENCES:
                    sequence = self._next_sequence()  # taken before this process was forked, in the middle of `append`
                if len(payload) > self._max_record_bytes:
                    payload = self._shrink(payload, self._max_record_bytes)
                self._put(payload, sequence)
        except OSError as problem:
            if is_interrupt(problem):
                raise
            self._fail(problem)
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self._count("too large" if len(payload) > self._max_record_bytes else "other")
            self._report(problem, "appending a record to the journal")
        else:
            self.tend()

    def _put(self, payload: bytes, sequence: int) -> None:
        frame = _frame(payload, sequence)
        while True:
            if self._segment is not None:
                try:
                    self._segment.write(frame)
                    self._install()  # what opened it may have been interrupted before it did this
                    return
                except ValueError as problem:
                    if is_interrupt(problem):
                        raise
            self._roll(len(frame))

    def _roll(self, frame_bytes: int) -> None:
        """Close the present segment and open the next. In that order: a later segment proves an earlier one final."""
        self._refusal.raise_again()
        self._leave_segment()
        self._files.make_directory(self.directory)  # also when somebody deleted it meanwhile
        origin = self._origin_frame() if self._needs_origin else b""
        begun = self._header or SegmentHeader(0, os.urandom(16), 0, process_identity(), self.first_sequence, time_ns())
        self._number = number = self._number + 1
        # In the branch that is not jumped to: CPython 3.10 runs signal handlers at a jump.
        if self._segment is None:
            self._header = begun
        else:  # a signal handler recorded meanwhile, and did this already
            return
        capacity = SEGMENT_BYTES[min(number, len(SEGMENT_BYTES) - 1)]
        while capacity < HEADER_BYTES + len(origin) + frame_bytes:
            capacity *= 2
        segment = open_segment(self._files, self.directory, begun._replace(number=number), capacity)
        self._segment = self._segment or segment  # type: ignore[redundant-expr]  # see the next line
        if self._segment is not segment:  # a signal handler recorded in a later segment: this one stays empty
            segment.close_to_writers()
            segment.release()
            return
        try:
            if any(self._dropped):
                segment.publish_dropped(self._dropped)
            if origin and self._needs_origin:
                segment.write(origin)
                self._needs_origin = False
            self._refusal.over()
        finally:
            self._install()
        closed, self._closed = self._closed, None
        self._let_go_of(closed)

    def _origin_frame(self) -> bytes:
        """The record that opens the journal; nothing if it cannot be made: a record is worth more than its origin."""
        try:
            return _frame(self._origin(), self.first_sequence - 1)  # outside the count of records: it is hush's own
        except Exception as problem:
            if is_interrupt(problem):
                raise
            self._needs_origin = False
            self._report(problem, "describing where the records come from")
            return b""

    def _leave_segment(self) -> None:
        """Close the present segment, which it is until nothing is left to do: whoever comes next begins here again.

        A signal handler may record, and so open the next, or raise between any two steps.
        """
        segment = self._segment
        if segment is None:
            return
        segment.close_to_writers()  # first: from the moment that there is a next segment, this one must be final
        try:
            if self._power_safe:
                segment.sync()
        except (OSError, ValueError) as problem:  # the records are in memory still, and the next segment can take more
            if is_interrupt(problem):
                raise
            if self._segment is segment:  # else a handler has left it meanwhile, and closed what was to be synced
                self._unsynced = problem
                self._report(problem, "syncing a full journal segment to the disk")
        if segment.is_deleted() and self._segment is segment and segment not in self._deleted:
            self._needs_origin = True  # the database may have been deleted with it
            self._deleted.append(segment)
        # Without a call, and in the branch that is not jumped to: no handler comes in between, that has left it, too.
        if self._segment is segment:
            before, self._closed, self._segment = self._closed, segment, None
            self._install()
            self._let_go_of(before)

    def _let_go_of(self, closed: Segment | None) -> None:
        if closed is not None and closed is not self._closed and closed not in self._deleted:
            closed.release()

    def _append_again(self) -> None:
        """Append again what was in deleted segments and is not stored, once no writer can be about to store it."""
        present = self._segment
        if present is None or self._is_appending_again:  # a signal handler in the middle of this comes here, too
            return
        self._is_appending_again = True
        try:
            # A call: where a loop jumps back, CPython 3.12 and 3.13 leave a `try` around it without its `finally`.
            self._take_over(present)
        finally:
            self._is_appending_again = False

    def _take_over(self, present: Segment) -> None:
        for segment in [each for each in self._deleted if each is not present]:
            reader = writer_pid(segment)
            has_read = reader != 0 and reader == writer_pid(present)  # that one, to its end
            if reader and not has_read and is_running(reader):
                continue
            again = [] if has_read else frames(segment.unstored())
            left = [each for each in self._deleted if each is not segment]
            self._again, self._deleted = [*self._again, *again], left
            segment.release()
        while self._again:
            self._put_again(*self._again[0])

    def _put_again(self, payload: bytes, sequence: int) -> None:
        """Append the first of those that wait for it, once: an interrupt may come before that is done, or after."""
        before, rest = self.position(), self._again[1:]
        try:
            self._put(payload, sequence)
            self._again_at, self._again = self.position(), rest
        except BaseException:
            segment = self._segment
            if segment is not None:
                start = before.offset if segment.number == before.segment else HEADER_BYTES
                if sequence in (each for _, each in frames(segment.content(start))):
                    self._again_at, self._again = self.position(), rest
            raise

    def _fail(self, problem: OSError) -> None:
        """The disk refused a record: count it."""
        is_news = self._refusal.note(problem, takes_nothing=self._segment is None)
        self._count(drop_reason(problem))
        if is_news:
            self._report(problem, self._writing)

    def drop(self, reason: str) -> None:
        """Count a record that could not even be encoded. It takes a sequence number like any other."""
        self._next_sequence()
        self._count(reason)

    def _count(self, reason: str) -> None:
        """Count a record that could not be kept.

        The count is in the journal as soon as that has a segment, also one that is closed: on a full disk there is no
        other place.
        """
        with self._lock:
            self._dropped[DROP_REASONS.index(reason if reason in DROP_REASONS else "other")] += 1
            segment = self._segment or self._closed
            if segment is not None:
                try:
                    segment.publish_dropped(self._dropped)
                except OSError as problem:  # counted in memory; the next segment's header will carry it
                    if is_interrupt(problem):
                        raise
                    self._report(problem, "publishing the count of dropped records")

    # -- the doorbell -------------------------------------------------------------------------------------------------

    def tend(self, *, at_once: bool = False) -> None:
        """Wake the writer if it sleeps, replace it if it is overdue, leave a segment that the disk failed to keep, or
        that somebody deleted.

        `append` does it when the bell is set, every few records (that a writer died while it was awake shows only in
        its promise), when it changes segments and after trouble; and so does whoever completes a request.

        :param at_once: somebody waits for the writer: wake it also if it is due to look by itself.
        """
        segment = self._segment
        try:
            due = at_once or (
                segment is not None and (segment.bell[BELL_AT] or monotonic() > writer_awake_until(segment))
            )
            if (due or self._deleted or self._again) and not self._refusal.is_fresh():
                segment = self._mend(at_once)
            if segment is None:
                if at_once:
                    self._ring(False)
                return
            is_armed = bool(segment.bell[BELL_AT])
            if due or is_armed:
                unheard: bool | None = True
                try:
                    if is_armed:
                        segment.set_bell(False)  # first: the writer may arm it again as soon as it is rung
                    unheard = self._ring(is_armed)
                finally:
                    if unheard:
                        segment.set_bell(True)
            if segment.bell[FAULT_AT]:
                with self._lock:
                    if self._segment is segment:
                        self._roll(0)
        except Exception as problem:  # the record is in the journal already: nothing here may undo that
            if is_interrupt(problem):
                raise
            self._report(problem, "waking the writer")

    def _mend(self, at_once: bool) -> Segment | None:
        """Go on in a segment that is whole, if the disk gives one: the present one is deleted, or left half way.

        :param at_once: also where there is none: that the writer begins the next one says that all before is stored.
        """
        with self._lock:
            segment = self._segment
            try:
                if segment is None:
                    if self._number >= 0 and (at_once or self._deleted or self._again):
                        self._roll(0)
                elif segment.is_deleted() or (at_once and segment.is_closed()):
                    self._roll(0)
                if self._deleted or self._again:
                    self._append_again()
            except OSError as problem:
                if is_interrupt(problem):
                    raise
                if self._refusal.note(problem, takes_nothing=False):  # the next record tries all the same
                    self._report(problem, self._writing)
            return self._segment

    # -- what the supervisor asks -------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether this process has recorded anything that a writer may still have to store."""
        return bool(self._segment or self._closed or self._deleted or self._again)

    @property
    def dropped(self) -> dict[str, int]:
        """Records that could not be kept, by reason."""
        return {reason: n for reason, n in zip(DROP_REASONS, self._dropped, strict=True) if n}

    @property
    def promised_until(self) -> float:
        """Until which time.monotonic() a writer has promised to look by itself; 0 if none has."""
        segment = self._segment
        return 0.0 if segment is None else writer_awake_until(segment)

    @property
    def writer(self) -> int:
        """The process id of the writer that reads this journal; 0 while none has looked at the present segment."""
        segment = self._segment
        return 0 if segment is None else writer_pid(segment)

    @property
    def name(self) -> str:
        """What the writer knows this journal by; empty while nothing has been recorded."""
        return "" if self._header is None else self._header.journal_id.hex()

    def position(self) -> Position:
        with self._lock:
            segment = self._segment
            return Position(self._number, 0) if segment is None else Position(segment.number, segment.position())

    def is_stored(self, position: Position) -> bool:
        """Whether the writer has put everything before a position into SQLite."""
        with self._lock:
            segment = self._segment
            if self._deleted or self._again:
                return False
            if segment is None:
                return self._number < 0
            position = max(position, self._again_at)
            stored = stored_offset(segment)
            return stored > 0 if segment.number > position.segment else stored >= position.offset

    def sync_to_disk(self) -> None:
        """When this returns, everything appended survives a power cut. Raises OSError if the disk does not confirm.

        That it did not confirm a segment that was left is said once: the writer stores what is in it.
        """
        with self._lock:
            if self._segment is not None:
                self._segment.sync()
            if self._names_synced != self._number:
                self._files.sync_directory(self.directory)
                self._names_synced = self._number
            problem, self._unsynced = self._unsynced, None
            if problem is not None:
                raise OSError(errno.EIO, f"a journal segment could not be synced: {problem}")

    def after_fork_in_child(self) -> None:
        """The mapping is the parent's to write: begin a journal of this process's own, at its first record."""
        inherited = [segment for segment in (self._segment, self._closed, *self._deleted) if segment is not None]
        self._begin()
        self._install()
        for segment in inherited:
            segment.disown()  # the fork may have come in the middle of an append, which now goes on in this process
            segment.release()


def _frame(payload: bytes, sequence: int) -> bytes:
    return FRAME_HEADER.pack(FRAME_MAGIC, len(payload), sequence, xxh3_64_intdigest(payload, sequence)) + payload


def _no_segment(frame: bytes) -> None:
    raise ValueError("no segment is open")


_NO_BELL: Final = bytes(HEADER_BYTES)
_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for journal in list(_journals):
        journal.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
