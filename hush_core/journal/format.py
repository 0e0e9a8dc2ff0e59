"""What is in a segment file: a header, then frames, then zeros.

::

    segment  = header (512 bytes), frame, frame, ... , zeros up to the size of the file
    frame    = magic u32 | length u32 | sequence u64 | checksum u64 | payload (length bytes)      little-endian
    checksum = XXH3-64 of the payload, seeded with the sequence

A frame is written in one copy, so a process that dies in the middle of it leaves one torn frame, always the last one,
whose `append` had not returned. The checksum tells: a reader takes a frame only when its checksum holds.

The sequence starts at a random number of 62 bits for each journal and grows by one per record. So a frame that an
earlier file left on the disk (a power cut can bring it to light) never passes for one of this journal, and
what is missing can be counted. Threads may write frames slightly out of sequence: each takes its number before its
copy.

A journal's segments are numbered. The next one is made only after the last has been closed to writers, so the presence
of a later segment proves that an earlier one is final.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

from hush_core.errors import JournalError
from hush_core.system import ProcessIdentity

SEGMENT_MAGIC: Final = b"HUSHJNL1"
FRAME_MAGIC: Final = 0x6D52461E  #: bytes 1E 46 52 6D: not valid UTF-8 text that a payload is likely to hold
FRAME_MAGIC_BYTES: Final = struct.pack("<I", FRAME_MAGIC)
FRAME_HEADER: Final = struct.Struct("<IIQQ")
FRAME_HEADER_BYTES: Final = FRAME_HEADER.size
HEADER_BYTES: Final = 512
FORMAT_VERSION: Final = 1

_FIXED = struct.Struct("<8sHHIQ16sIIQ16sQQQ")  # what `SegmentHeader` holds
_CHECKSUM_AT: Final = 120

# The part of the header that changes while the segment lives. Each field but the bell has one writer.
BELL_AT: Final = 128  #: u8, 1: the writer sleeps, ring it after the next append. The app clears it
WRITER_AT: Final = 132  #: u32, set by the writer: its process id
STORED_AT: Final = 136  #: u64, set by the writer: everything before this offset (and all earlier segments) is in SQLite
AWAKE_UNTIL_AT: Final = 144  #: f64, set by the writer: it promises to look again before this time.monotonic()
FAULT_AT: Final = 152  #: u8, set by the writer: the disk failed to keep this segment, go on in a new one
ENDED_AT: Final = 156  #: u32, set by the app when it leaves the segment: its frames reach at least to this offset
#: Set by the app: the checksum (u64) of the rest of the header, then a u64 for each of DROP_REASONS: records that it
#: could not keep, over its life.
DROPPED_AT: Final = 160

#: Why a record could not be kept. The order is part of the format; a new reason is added at the end.
DROP_REASONS: Final = (
    "disk full", "no permission", "input/output error", "encoding failed", "too large", "other", "no descriptor",
)  # fmt: skip

# Beside the segments, in the journals' folder.
SET_ASIDE: Final = "set-aside"  #: the folder of records and bytes that the writer could not read
WRITER_LOG: Final = "writer.log"


class JournalTooNewError(JournalError):
    """A newer hush wrote this journal, and will store it: it is left untouched."""


class SegmentHeader(NamedTuple):
    """The fixed part of a segment's header: whose it is."""

    size: int  #: of the file, bytes; 0 for a file that grows by write(2)
    journal_id: bytes  #: 16 random bytes, one journal per process
    number: int  #: of this segment in its journal, from 0
    owner: ProcessIdentity
    first_sequence: int  #: of the journal's first record
    created_ns: int

    @property
    def is_mapped(self) -> bool:
        return self.size > 0


def pack_header(header: SegmentHeader) -> bytes:
    """The 512 bytes that begin a segment, with the bell set, so that the first append rings."""
    who = header.owner
    fixed = _FIXED.pack(
        SEGMENT_MAGIC, FORMAT_VERSION, 0, HEADER_BYTES, header.size, header.journal_id, header.number, who.pid,
        who.start_ticks, who.boot_id, who.pid_namespace, header.first_sequence, header.created_ns,
    )  # fmt: skip
    page = bytearray(HEADER_BYTES)
    page[: len(fixed)] = fixed
    struct.pack_into("<Q", page, _CHECKSUM_AT, xxh3_64_intdigest(bytes(page[:_CHECKSUM_AT])))
    page[BELL_AT] = 1
    return bytes(page)


def unpack_header(page: bytes) -> SegmentHeader:
    """Read a segment's header. Raises JournalError if it is not one, JournalTooNewError if it is of a newer format."""
    if len(page) < HEADER_BYTES or not page.startswith(SEGMENT_MAGIC):
        raise JournalError("not a journal segment: it does not begin with the magic of one")
    (checksum,) = struct.unpack_from("<Q", page, _CHECKSUM_AT)
    if checksum != xxh3_64_intdigest(page[:_CHECKSUM_AT]):
        raise JournalError("the header of this journal segment is damaged: its checksum does not hold")
    (_, version, _, header_bytes, size, journal_id, number, pid, ticks, boot, namespace, first, created) = (
        _FIXED.unpack_from(page)
    )
    if version != FORMAT_VERSION or header_bytes != HEADER_BYTES:
        raise JournalTooNewError(
            f"this journal segment has format {version}; this hush reads format {FORMAT_VERSION}. "
            "A newer hush wrote it, and will store it: it is left untouched."
        )
    return SegmentHeader(size, journal_id, number, ProcessIdentity(pid, ticks, boot, namespace), first, created)


def frames(content: bytes) -> list[tuple[bytes, int]]:
    """The payloads and sequences of the frames at the start of some bytes, up to the first that is not whole."""
    found: list[tuple[bytes, int]] = []
    at = 0
    while at + FRAME_HEADER_BYTES <= len(content):
        magic, length, sequence, checksum = FRAME_HEADER.unpack_from(content, at)
        payload = content[at + FRAME_HEADER_BYTES : at + FRAME_HEADER_BYTES + length]
        if magic != FRAME_MAGIC or xxh3_64_intdigest(payload, sequence) != checksum:
            break
        found.append((payload, sequence))
        at += FRAME_HEADER_BYTES + length
    return found


def pack_dropped(counts: list[int]) -> bytes:
    """The counts of records that the app could not keep, in the order of DROP_REASONS, to be put at DROPPED_AT."""
    packed = struct.pack(f"<{len(counts)}Q", *counts)
    return struct.pack("<Q", xxh3_64_intdigest(packed.ljust(HEADER_BYTES - DROPPED_AT - 8, b"\0"))) + packed


def unpack_dropped(page: bytes) -> dict[str, int]:
    """The counts of records that the app could not keep, by reason, from a segment's header; none if it is damaged."""
    if len(page) < HEADER_BYTES:
        return {}
    (checksum,) = struct.unpack_from("<Q", page, DROPPED_AT)
    if checksum != xxh3_64_intdigest(page[DROPPED_AT + 8 : HEADER_BYTES]):
        return {}
    counts = struct.unpack_from(f"<{len(DROP_REASONS)}Q", page, DROPPED_AT + 8)
    return {reason: count for reason, count in zip(DROP_REASONS, counts, strict=True) if count}


def journal_directory(db_path: Path) -> Path:
    """Where the journals of a database are."""
    return Path(f"{db_path}.journal")


def segment_name(journal_id: bytes, number: int) -> str:
    return f"{journal_id.hex()}-{number:06d}.segment"


def parse_segment_name(name: str) -> tuple[bytes, int] | None:
    """The journal id and number that a file name says, or None if it is not a segment's name."""
    journal_hex, _, number = name.removesuffix(".segment").partition("-")
    try:
        parsed = bytes.fromhex(journal_hex), int(number)
    except ValueError:
        return None
    return parsed if len(parsed[0]) == 16 and segment_name(*parsed) == name else None
