"""One journal, as the writer drains it: where it stands, what comes next, what becomes of a segment that is stored."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
from xxhash import xxh3_64_hexdigest

from hush_core.errors import JournalError
from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    BELL_AT,
    ENDED_AT,
    FAULT_AT,
    HEADER_BYTES,
    SET_ASIDE,
    STORED_AT,
    WRITER_AT,
    JournalTooNewError,
    SegmentHeader,
    segment_name,
    unpack_dropped,
)
from hush_core.journal.reader import (
    READ_BYTES,
    Replay,
    header_of_damaged,
    last_used_byte,
    lowest_sequence,
    next_good_frame,
    numbers_before,
    owner_is_gone,
    read_header,
    replay,
    segments,
)
from hush_core.store.sqlite import JournalState, Slice
from hush_core.system import Files

_READ_AT_FIRST: Final = 16 * 1024


class Step(NamedTuple):
    """One slice of a journal, ready to be stored, and what follows once it is."""

    slice: Slice
    finished: list[int]  #: segments that this slice leaves behind for good


class Source:
    """A journal that the writer drains. Raises JournalError if its files cannot be read as one.

    `step` reads and changes nothing, so that a failed transaction can simply step again; `advance` moves on, after the
    transaction that stored the step.
    """

    def __init__(
        self, files: Files, directory: Path, journal_id: bytes, numbers: list[int], state: JournalState | None
    ) -> None:
        self._files = files
        self._directory = directory
        self._id = journal_id
        self._numbers = list(numbers)
        self._fd = -1
        self._number = state.segment if state is not None else numbers[0]
        self._offset = state.offset if state is not None else HEADER_BYTES
        self._since = (state.segment, state.offset) if state is not None else None  # what the store has
        self._is_unlinked = False
        self._begins_late = state is None and numbers[0] > 0  # what came before was given up to another database
        self.damaged_header: str | None = None  # what is wrong with the present segment's, if anything is
        self._read_bytes = _READ_AT_FIRST
        if self._number not in self._numbers:  # it was stored and given up; go on in the next
            later = [number for number in self._numbers if number > self._number]
            if not later:
                raise FileNotFoundError(f"no segment of journal {self.name} from {self._number} on")
            self._number, self._offset = later[0], HEADER_BYTES
        self.header = self._open(self._number, state.first if state is not None else None)
        begun = state or JournalState(
            journal_id=journal_id.hex(),
            pid=self.header.owner.pid,
            opened_ns=self.header.created_ns,
            segment=self._number,
            offset=self._offset,
            first=self.header.first_sequence,
            highest=self.header.first_sequence - 1,
        )
        self.state = msgspec.structs.replace(begun, segment=self._number, offset=self._offset)
        self.gone = False
        self.damage_checked_at = 0.0

    @property
    def name(self) -> str:
        return self._id.hex()

    @property
    def fd(self) -> int:
        """Of the segment that is being read; for syncing it."""
        return self._fd

    @property
    def newest(self) -> int:
        """The number of the last segment that is known."""
        return self._numbers[-1] if self._numbers else self._number

    @property
    def is_open(self) -> bool:
        """Whether there is such a segment: not after `close`."""
        return self._fd >= 0

    def close(self) -> None:
        if self._fd >= 0:
            self._files.close(self._fd)
            self._fd = -1

    def _path(self, number: int) -> Path:
        return self._directory / segment_name(self._id, number)

    def _open(self, number: int, first_sequence: int | None) -> SegmentHeader:
        fd = self._files.open(self._path(number), os.O_RDWR)
        try:
            header = self._read_header(fd, number, first_sequence)
            # Before anything is read: should somebody delete the file, its owner must know that it is being stored.
            if self.damaged_header is None:
                self._files.write(fd, struct.pack("<I", os.getpid()), WRITER_AT)
        except BaseException:
            self._files.close(fd)
            raise
        self.close()
        self._fd, self._number = fd, number
        return header

    def _read_header(self, fd: int, number: int, first_sequence: int | None) -> SegmentHeader:
        self.damaged_header = None
        try:
            return read_header(self._files, fd)
        except JournalTooNewError:
            raise
        except JournalError as problem:
            self.damaged_header = f"segment {number}: {problem}"
            self._set_aside(fd, number, 0, min(HEADER_BYTES, last_used_byte(self._files, fd, 0)))
        for other in self._numbers:
            if other != number:
                with contextlib.suppress(FileNotFoundError, JournalError):
                    return self._read_other_header(other)._replace(number=number)
        return header_of_damaged(self._files, fd, self._id, number, first_sequence)

    def _read_other_header(self, number: int) -> SegmentHeader:
        fd = self._files.open(self._path(number), os.O_RDONLY)
        try:
            return read_header(self._files, fd)
        finally:
            self._files.close(fd)

    def learn(self, numbers: list[int]) -> None:
        """The directory was listed again: these segments are there.

        The one that is open stays, whatever the list says: somebody may have deleted its name while its owner goes on.
        """
        self._is_unlinked = self._number not in numbers
        self._numbers = [self._number, *(number for number in numbers if number > self._number)]

    def is_unlinked(self) -> bool:
        """Whether somebody deleted the segment that is being read, while its owner may still write to it."""
        return self._is_unlinked and not self.gone

    def stored_already(self, numbers: list[int]) -> list[Path]:
        """Of these segments, the files that an earlier writer had stored and did not come to give up."""
        return [self._path(number) for number in numbers if number < self._number]

    def check_owner(self) -> bool:
        """Whether the process that writes this journal has ended. Once it has, it has for good."""
        if not self.gone and owner_is_gone(self._files, self._fd, self.header):
            # Only a list that was made after its death shows its last segment for certain.
            self.learn(segments(self._files, self._directory).get(self._id, []))
            self.gone = True
        return self.gone

    # -- draining -----------------------------------------------------------------------------------------------------

    def step(self, max_bytes: int = READ_BYTES, *, look_behind_damage: bool = False) -> Step | None:
        """The next records, or None if there are none now.

        :param look_behind_damage: search behind bytes that are no frame. Only then, because a live process may be
            copying a frame this instant; a good frame behind them, a later segment or the owner's death proves damage.
        """
        final = self._is_final()
        found = self._replay(max_bytes)
        if not (found.payloads or final or (found.damaged and look_behind_damage)):
            return None
        state = msgspec.structs.replace(self.state, dropped=self._dropped())
        if found.payloads:
            self._count_elsewhere(state, self._fd, self._offset)
            state.offset = found.end
            state.highest = max(state.highest, found.highest_sequence)
            return self._step(state, found.payloads)
        # What a process wrote has no gap; but of pages that were not synced, a power cut keeps what it likes.
        if found.damaged or last_used_byte(self._files, self._fd, self._offset) > self._offset:
            return self._step_over_damage(state, final)
        if self._numbers[-1] > self._number:
            return self._step_to_next(state, look_for_missing=self._lost_its_end())
        return None

    def _lost_its_end(self) -> bool:
        """Whether the last frames of a segment, or whole segments, are gone without a trace: cut off, or never written.

        That numbers are missing is no proof: a thread that has its number may still have to write its frame, or its
        process may have died before it could.
        """
        if self.damaged_header is not None or self._number + 1 not in self._numbers:
            return True
        (reached,) = struct.unpack("<I", self._files.read(self._fd, 4, ENDED_AT))
        return bool(reached > self._offset)

    def _step_to_next(self, state: JournalState, *, look_for_missing: bool) -> Step:
        state.segment = min(number for number in self._numbers if number > self._number)
        state.offset = HEADER_BYTES
        if look_for_missing:
            fd = self._files.open(self._path(state.segment), os.O_RDONLY)
            try:
                state.dropped = unpack_dropped(self._files.read(fd, HEADER_BYTES, 0)) or state.dropped
                self._count_missing(state, fd, HEADER_BYTES)
            finally:
                self._files.close(fd)
        return self._step(state, finished=[self._number])

    def _step(self, state: JournalState, payloads: Sequence[bytes] = (), finished: Sequence[int] = ()) -> Step:
        return Step(Slice(state, list(payloads), self._since), list(finished))

    def _replay(self, max_bytes: int) -> Replay:
        """Read as much as is likely to be there: little when little came last time, up to the bound after a burst."""
        wanted = min(self._read_bytes, max_bytes)
        found = replay(self._files, self._fd, self._offset, self.state.first, wanted)
        filled = found.end - self._offset > wanted // 2
        self._read_bytes = min(wanted * 4, READ_BYTES) if filled else max(wanted // 2, _READ_AT_FIRST)
        return found

    def _is_final(self) -> bool:
        """Whether nobody can append to the present segment any more. Asked before reading it, never after."""
        return self.gone or self._numbers[-1] > self._number

    def _step_over_damage(self, state: JournalState, final: bool) -> Step | None:
        """Keep the damaged bytes, and go on behind them: at the next good frame, in the next segment, or at the end.

        The sequence of what follows tells how many records are lost. At the end nothing does; and there the damage is
        mostly the one record whose append had not returned.
        """
        behind = next_good_frame(self._files, self._fd, self._offset, self.state.first)
        if behind is None and not final:
            return None
        if behind is not None:
            self._set_aside(self._fd, self._number, self._offset, behind)
            state.offset = behind
            self._count_missing(state, self._fd, behind)
            return self._step(state)
        end = last_used_byte(self._files, self._fd, self._offset)
        self._set_aside(self._fd, self._number, self._offset, end)
        state.offset = end
        if self._numbers[-1] == self._number:
            return self._step(state)
        return self._step_to_next(state, look_for_missing=True)

    def _count_missing(self, state: JournalState, fd: int, offset: int) -> None:
        """Between what was read and what follows, the records that are not known as dropped were in the damage."""
        self._count_elsewhere(state, fd, offset)
        following = lowest_sequence(self._files, fd, offset, state.first)
        if following is not None:
            known = state.elsewhere + state.stored + state.set_aside + sum(state.dropped.values())
            state.set_aside += max(min(following - state.highest - 1, following - state.first - known), 0)

    def _count_elsewhere(self, state: JournalState, fd: int, offset: int) -> None:
        """If the first segments were stored in a database that is gone, count from the first record that is here."""
        if self._begins_late and state.highest < state.first:
            state.elsewhere = numbers_before(self._files, fd, offset, state.first) or 0
            state.highest = state.first + state.elsewhere - 1

    def _set_aside(self, fd: int, number: int, start: int, end: int) -> None:
        """Keep damaged bytes in a file of their own."""
        if start < end:
            self._keep(f"{self.name}-{number:06d}-{start}.bytes", self._chunks(fd, start, end))

    def keep_refused(self, payload: bytes) -> None:
        """Keep a record that has a good checksum and yet cannot be read (a newer hush wrote it, say)."""
        self._keep(f"{self.name}-{xxh3_64_hexdigest(payload)}.record", [payload])

    def _chunks(self, fd: int, start: int, end: int) -> Iterator[bytes]:
        while start < end and (chunk := self._files.read(fd, min(READ_BYTES, end - start), start)):
            yield chunk
            start += len(chunk)

    def _keep(self, name: str, chunks: Iterable[bytes]) -> None:
        """Set bytes aside in a file. Doing it twice for the same bytes does it once.

        When this returns, they survive a power cut: the segment that they are of may be given up next.
        """
        folder = self._directory / SET_ASIDE
        self._files.make_directory(folder)
        fd = self._files.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            at = 0
            for chunk in chunks:
                while chunk:  # a write may be short
                    written = self._files.write(fd, chunk, at)
                    chunk, at = chunk[written:], at + written
            self._files.sync(fd)
        finally:
            self._files.close(fd)
        self._files.sync_directory(folder)
        self._files.sync_directory(self._directory)  # of the folder's own name

    def _dropped(self) -> dict[str, int]:
        if self.damaged_header is not None:
            return self.state.dropped
        return unpack_dropped(self._files.read(self._fd, HEADER_BYTES, 0)) or self.state.dropped

    def advance(self, step: Step) -> list[Path]:
        """The step is stored: move on. Returns the files of segments that are no longer needed."""
        self.state = step.slice.state
        self._since = (self.state.segment, self.state.offset)
        self._offset = self.state.offset
        left = [self._path(number) for number in step.finished]
        if self.state.segment != self._number:
            self.header = self._open(self.state.segment, self.state.first)
        return left

    def written(self) -> tuple[int, int]:
        """How far the owner has come, as (segment, offset): who asks for what is there need not wait for what comes."""
        if self.newest == self._number:
            return self._number, last_used_byte(self._files, self._fd, self._offset)
        fd = self._files.open(self._path(self.newest), os.O_RDONLY)
        try:
            return self.newest, last_used_byte(self._files, fd, HEADER_BYTES)
        finally:
            self._files.close(fd)

    def is_drained(self) -> bool:
        """Whether the owner has ended and all it wrote is stored."""
        return self.gone and self.step() is None

    def final_state(self) -> JournalState:
        """The state of a drained journal, with what its owner could not keep after the last record that it kept."""
        return msgspec.structs.replace(self.state, dropped=self._dropped())

    def files(self) -> list[Path]:
        """Every file of this journal."""
        return [self._path(number) for number in self._numbers]

    # -- telling the owner --------------------------------------------------------------------------------------------

    def publish_stored(self) -> None:
        """Tell the owner how far it is stored."""
        self._tell(STORED_AT, struct.pack("<Q", self._offset))

    def promise(self, until: float) -> None:
        """Tell the owner that the writer looks again by itself before this time.monotonic(): no need to ring."""
        self._tell(AWAKE_UNTIL_AT, struct.pack("<d", until))

    def arm_bell(self) -> None:
        """Ask the owner to ring after its next append."""
        self._tell(BELL_AT, b"\1")

    def report_fault(self) -> None:
        """Tell the owner that this segment is not kept: after its next append it goes on in a new one."""
        self._tell(FAULT_AT, b"\1")
        self.arm_bell()

    def _tell(self, at: int, data: bytes) -> None:
        if not self.gone:
            self._files.write(self._fd, data, at)


def retire_segment(files: Files, path: Path) -> None:
    """Give up a stored segment. Only after the transaction that stored it is durable."""
    with contextlib.suppress(FileNotFoundError):
        files.unlink(path)
