"""The journal in the writer's process: `replay` the frames of a segment, tell what is torn, find the journals that
are there.

Reads with pread(2), never through a mapping: a file that somebody truncates ends a read, but would kill a mapping's
reader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from hush_core.errors import JournalError
from hush_core.journal.format import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    FRAME_MAGIC_BYTES,
    HEADER_BYTES,
    SegmentHeader,
    parse_segment_name,
    segment_name,
    unpack_dropped,
    unpack_header,
)
from hush_core.model import ORIGIN
from hush_core.system import FILES, Files, ProcessIdentity, is_gone

READ_BYTES: Final = 1024 * 1024
_MAX_FRAME_BYTES: Final = 64 * 1024 * 1024  # far above what an appender writes: a longer length is damage


class Replay(NamedTuple):
    """What one read of a segment found."""

    payloads: list[bytes]
    records: int  #: how many of them are the app's; the ORIGIN record that opens a journal is hush's own
    end: int  #: offset of the first byte that is not part of a good frame
    highest_sequence: int  #: -1 if no payload
    damaged: bool  #: the bytes at ``end`` are not zeros: a torn frame, one being copied this instant, or garbage


def replay(files: Files, fd: int, start: int, first_sequence: int, max_bytes: int = READ_BYTES) -> Replay:
    """Read the frames from an offset on, at most about ``max_bytes`` of them.

    Takes a frame only when its checksum holds and its sequence can be of this journal. Changes nothing; what it
    returned before, it returns again.
    """
    buffer = files.read(fd, max_bytes, start)
    found = _frames(buffer, first_sequence)
    if not found.payloads and found.damaged:
        longer = _whole_frame_bytes(buffer)
        if longer > len(buffer):  # a frame longer than what was read at once
            found = _frames(files.read(fd, longer, start), first_sequence)
    return found._replace(end=start + found.end)


def _frames(buffer: bytes, first_sequence: int) -> Replay:
    unpack, header_bytes, checksum_of = FRAME_HEADER.unpack_from, FRAME_HEADER_BYTES, xxh3_64_intdigest
    payloads: list[bytes] = []
    at, size, highest, own = 0, len(buffer), -1, 0
    while at + header_bytes <= size:
        magic, length, sequence, checksum = unpack(buffer, at)
        body = at + header_bytes
        if magic != FRAME_MAGIC or not length or body + length > size:
            break
        payload = buffer[body : body + length]
        if checksum_of(payload, sequence) != checksum or not 0 <= sequence - first_sequence + 1 < 1 << 48:
            break
        payloads.append(payload)
        if sequence > highest:
            highest = sequence
        if sequence < first_sequence:
            own += 1
        at = body + length
    rest = buffer[at : at + header_bytes]
    return Replay(payloads, len(payloads) - own, at, highest, rest.count(0) != len(rest))


def _whole_frame_bytes(buffer: bytes) -> int:
    """How many bytes the frame at the start of a buffer says it takes; 0 if it is not one."""
    if len(buffer) < FRAME_HEADER_BYTES:
        return 0
    magic, length, _, _ = FRAME_HEADER.unpack_from(buffer)
    return length + FRAME_HEADER_BYTES if magic == FRAME_MAGIC and length <= _MAX_FRAME_BYTES else 0


def next_good_frame(files: Files, fd: int, start: int, first_sequence: int) -> int | None:
    """The offset of the first good frame at or after an offset, or None: where reading can go on behind damage.

    A frame behind damage proves that the damage is not a copy in progress: one process writes its frames one by one.
    """
    for at in _magic_offsets(files, fd, start):
        if replay(files, fd, at, first_sequence, FRAME_HEADER_BYTES * 4).payloads:
            return at
    return None


def _magic_offsets(files: Files, fd: int, start: int) -> Iterator[int]:
    size = files.size(fd)
    at = start
    while at < size:
        chunk = files.read(fd, READ_BYTES, at)
        if not chunk:
            return
        hit = chunk.find(FRAME_MAGIC_BYTES)
        while hit >= 0:
            yield at + hit
            hit = chunk.find(FRAME_MAGIC_BYTES, hit + 1)
        # A magic may lie across two chunks.
        at += max(len(chunk) - len(FRAME_MAGIC_BYTES) + 1, 1)


def lowest_sequence(files: Files, fd: int, start: int, first_sequence: int) -> int | None:
    """The lowest sequence among the app's records from an offset on, as far as one read reaches; None if none is there.

    The lowest, not the first: threads may write their frames slightly out of sequence.
    """
    return min(_sequences(files, fd, start, first_sequence), default=None)


def numbers_before(files: Files, fd: int, start: int, first_sequence: int) -> int | None:
    """How many numbers of a journal went to records before those from an offset on; None if no record is there.

    Where segments meet, threads may have written theirs out of sequence: a number that is missing among the first
    records was taken by one before them.
    """
    sequences = sorted(_sequences(files, fd, start, first_sequence))
    first_half = sequences[: len(sequences) // 2 + 1]  # among the last, a thread may still be about to write one
    return first_half[-1] + 1 - first_sequence - len(first_half) if first_half else None


def _sequences(files: Files, fd: int, start: int, first_sequence: int) -> list[int]:
    """Those of the app's records from an offset on, as far as one read reaches."""
    at = start
    sequences = []
    for payload in replay(files, fd, start, first_sequence).payloads:
        sequences.append(_sequence_at(files, fd, at))
        at += FRAME_HEADER_BYTES + len(payload)
    return [sequence for sequence in sequences if sequence >= first_sequence]


def _sequence_at(files: Files, fd: int, offset: int) -> int:
    _, _, sequence, _ = FRAME_HEADER.unpack(files.read(fd, FRAME_HEADER_BYTES, offset).ljust(FRAME_HEADER_BYTES, b"\0"))
    return int(sequence)


def last_used_byte(files: Files, fd: int, start: int) -> int:
    """The end of what is not zero, from an offset on: how far damage at the end of a segment reaches."""
    size = files.size(fd)
    used = start
    at = start
    while at < size:
        chunk = files.read(fd, READ_BYTES, at)
        if not chunk:
            break
        kept = chunk.rstrip(b"\0")
        if kept:
            used = at + len(kept)
        at += len(chunk)
    return used


def read_header(files: Files, fd: int) -> SegmentHeader:
    """The header of an open segment. Raises JournalError if it is not one, JournalTooNewError if it is a newer one."""
    return unpack_header(files.read(fd, HEADER_BYTES, 0))


def header_of_damaged(
    files: Files, fd: int, journal_id: bytes, number: int, first_sequence: int | None
) -> SegmentHeader:
    """What must stand in for a segment's damaged header, so that the good frames behind it can be read.

    The owner is nobody: whether it lives, the segment's lock alone tells. When no sequence is known, the first good
    frame's is taken.
    """
    first = first_sequence if first_sequence is not None else _first_sequence_found(files, fd)
    return SegmentHeader(0, journal_id, number, ProcessIdentity(0, 0, bytes(16), 0), first, 0)


def _first_sequence_found(files: Files, fd: int) -> int:
    for at in _magic_offsets(files, fd, HEADER_BYTES):
        sequence = _sequence_at(files, fd, at)
        payloads = replay(files, fd, at, sequence, FRAME_HEADER_BYTES * 4).payloads
        if payloads:
            return sequence + 1 if payloads[0][1:2] == bytes([ORIGIN]) else sequence
    return 0


def owner_is_gone(files: Files, fd: int, header: SegmentHeader) -> bool:
    """Whether the process that writes this segment has ended, for certain.

    Two witnesses must agree. The lock alone is no proof: a process that closes all its descriptors loses it while its
    mapping lives on. The pid alone is none: another container's pids are not visible here.
    """
    if is_gone(header.owner) is False:
        return False
    if not files.lock(fd):
        return False
    files.unlock(fd)
    return True


def segments(files: Files, directory: Path) -> dict[bytes, list[int]]:
    """The journals in a directory: id -> the numbers of its segments, ascending."""
    found: dict[bytes, list[int]] = {}
    for name in files.list(directory):
        parsed = parse_segment_name(name)
        if parsed is not None:
            found.setdefault(parsed[0], []).append(parsed[1])
    for numbers in found.values():
        numbers.sort()
    return found


class JournalSurvey(NamedTuple):
    """What is in one journal's files, for `hush doctor`. Counted by reading them, not by what anybody says of them."""

    journal_id: str
    pid: int
    alive: bool
    first_sequence: int
    segments: dict[int, str]  #: number -> path
    bytes_on_disk: int
    dropped: dict[str, int]
    problem: str | None


def survey(directory: Path, files: Files = FILES) -> list[JournalSurvey]:
    """The journals in a directory.

    Reads only; safe beside live processes (it takes no lock that a process could miss).
    """
    found = segments(files, directory)
    return [_survey_journal(files, directory, journal_id, numbers) for journal_id, numbers in found.items()]


def _survey_journal(files: Files, directory: Path, journal_id: bytes, numbers: list[int]) -> JournalSurvey:
    paths = {number: str(directory / segment_name(journal_id, number)) for number in numbers}
    size = sum(os.stat(path).st_size for path in paths.values() if os.path.exists(path))
    try:
        fd = files.open(Path(paths[numbers[-1]]), os.O_RDONLY)
    except FileNotFoundError:
        return JournalSurvey(journal_id.hex(), 0, False, 0, {}, 0, {}, None)
    try:
        page = files.read(fd, HEADER_BYTES, 0)
        header = unpack_header(page)
        alive = is_gone(header.owner) is not True
        dropped = unpack_dropped(page)
        return JournalSurvey(
            journal_id.hex(), header.owner.pid, alive, header.first_sequence, paths, size, dropped, None
        )
    except JournalError as problem:
        return JournalSurvey(journal_id.hex(), 0, False, 0, paths, size, {}, str(problem))
    finally:
        files.close(fd)


class Pending(NamedTuple):
    """What a journal holds behind a position."""

    records: int
    highest_sequence: int  #: -1 if there is no record


def count_before(survey: JournalSurvey, files: Files = FILES) -> int:
    """How many numbers went to records of segments that are gone; see `numbers_before`."""
    first = min(survey.segments)
    if first == 0:
        return 0
    try:
        fd = files.open(Path(survey.segments[first]), os.O_RDONLY)
    except FileNotFoundError:
        return 0
    try:
        return numbers_before(files, fd, HEADER_BYTES, survey.first_sequence) or 0
    finally:
        files.close(fd)


def count_pending(survey: JournalSurvey, segment: int, offset: int, files: Files = FILES) -> Pending:
    """How many records a journal holds behind a position, and the highest sequence among them, by reading them."""
    total, highest = 0, -1
    for number, path in sorted(survey.segments.items()):
        if number < segment:
            continue
        try:
            fd = files.open(Path(path), os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            at = offset if number == segment else HEADER_BYTES
            found = _count_frames(files, fd, at, survey.first_sequence)
        finally:
            files.close(fd)
        total, highest = total + found.records, max(highest, found.highest_sequence)
    return Pending(total, highest)


def _count_frames(files: Files, fd: int, at: int, first_sequence: int) -> Pending:
    total, highest = 0, -1
    while True:
        found = replay(files, fd, at, first_sequence)
        total, highest = total + found.records, max(highest, found.highest_sequence)
        if found.payloads:
            at = found.end
            continue
        behind = next_good_frame(files, fd, at, first_sequence) if found.damaged else None
        if behind is None:
            return Pending(total, highest)
        at = behind
