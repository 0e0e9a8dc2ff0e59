"""Segments that a disk, a hand or a power cut has damaged: what is whole is stored, the rest set aside and counted."""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from xxhash import xxh3_64_intdigest

from hush_core.background.supervisor import journal_directory
from hush_core.journal.format import (
    FRAME_HEADER,
    FRAME_HEADER_BYTES,
    FRAME_MAGIC,
    HEADER_BYTES,
    SET_ASIDE,
    unpack_header,
)

from .children import Acknowledgements, Child, drain, log_of, open_journal, run_writer
from .history import Record, check_whole, expected, history, stored, totals

RECORDS: Final = history(12)
#: How often each kind of damage is tried, at places that chance chooses.
TIMES: Final = 6

Damage = Callable[[random.Random, list[Path]], None]


class Frame(NamedTuple):
    """Where a record is."""

    path: Path
    start: int
    data: bytes
    index: int  #: of the record in the history

    def is_whole(self) -> bool:
        return self.path.exists() and self.path.read_bytes()[self.start : self.start + len(self.data)] == self.data


def record(database: Path, records: list[Record]) -> None:
    journal = open_journal(database)
    for each in records:
        journal.append(each.payload)


def segments_of(database: Path) -> list[Path]:
    return sorted(journal_directory(database).glob("*.segment"))


def frames_of(path: Path) -> list[Frame]:
    """The records in an undamaged segment."""
    data = path.read_bytes()
    first = unpack_header(data[:HEADER_BYTES]).first_sequence
    at, frames = HEADER_BYTES, []
    while at + FRAME_HEADER_BYTES < len(data):
        magic, length, sequence, _ = FRAME_HEADER.unpack_from(data, at)
        if magic != FRAME_MAGIC:
            break
        end = at + FRAME_HEADER_BYTES + length
        if sequence >= first:
            frames.append(Frame(path, at, data[at:end], sequence - first))
        at = end
    return frames


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def flip_a_bit(dice: random.Random, paths: list[Path]) -> None:
    path = dice.choice(paths)
    at = dice.randrange(path.stat().st_size)
    overwrite(path, at, bytes([path.read_bytes()[at] ^ 1 << dice.randrange(8)]))


def flip_many_bits(dice: random.Random, paths: list[Path]) -> None:
    for _ in range(20):
        flip_a_bit(dice, paths)


def write_garbage(dice: random.Random, paths: list[Path]) -> None:
    path = dice.choice(paths)
    overwrite(path, dice.randrange(path.stat().st_size - 3000), dice.randbytes(dice.randrange(1, 3000)))


def lose_a_page(dice: random.Random, paths: list[Path]) -> None:
    path = dice.choice(paths)
    overwrite(path, dice.randrange(path.stat().st_size // 4096) * 4096, bytes(4096))


def truncate(dice: random.Random, paths: list[Path]) -> None:
    path = dice.choice(paths)
    os.truncate(path, dice.randrange(path.stat().st_size))


def empty(dice: random.Random, paths: list[Path]) -> None:
    os.truncate(dice.choice(paths), 0)


def destroy_a_header(dice: random.Random, paths: list[Path]) -> None:
    overwrite(dice.choice(paths), 0, dice.randbytes(HEADER_BYTES))


def destroy_every_header(dice: random.Random, paths: list[Path]) -> None:
    for path in paths:
        overwrite(path, 0, dice.randbytes(HEADER_BYTES))


def replace_by_garbage(dice: random.Random, paths: list[Path]) -> None:
    path = dice.choice(paths)
    path.write_bytes(dice.randbytes(path.stat().st_size))


def delete(dice: random.Random, paths: list[Path]) -> None:
    dice.choice(paths).unlink()


def append_garbage(dice: random.Random, paths: list[Path]) -> None:
    with dice.choice(paths).open("ab") as file:
        file.write(dice.randbytes(5000))


DAMAGES: Final[list[Damage]] = [
    flip_a_bit, flip_many_bits, write_garbage, lose_a_page, truncate, empty, destroy_a_header, destroy_every_header,
    replace_by_garbage, delete, append_garbage,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("small_segments")
def test_whole_records_of_a_damaged_journal_are_stored_and_the_others_are_set_aside_and_counted(
    scratch: Path, damage: Damage
) -> None:
    for seed in range(TIMES):
        database = scratch / f"{seed}.db"
        Child(partial(record, database, RECORDS), scratch / "errors").wait()
        paths = segments_of(database)
        frames = [frame for path in paths for frame in frames_of(path)]
        assert [frame.index for frame in frames] == list(range(len(RECORDS)))
        damage(random.Random(seed), paths)
        begins = paths[0].exists()
        whole = [frame.index for frame in frames if frame.is_whole()]
        lost = [frame.index for frame in frames if frame.index not in whole]
        print(f"seed {seed}: lost {lost}")
        drain(database)
        check_whole(database)
        assert stored(database) == expected([RECORDS[index] for index in whole])
        counts = totals(database)
        assert counts.pop("records_stored", 0) == len(whole)
        # What is lost at the very end is known to nobody: it may be a record whose append had not returned. Nor what
        # was in a first segment that is gone: it may be stored in a database that somebody deleted.
        begin = 0 if begins else whole[0]
        countable = [index for index in lost if whole and begin <= index < whole[-1]]
        if damage is not destroy_every_header:  # then nobody knows where the journal began, either
            assert counts.pop("records_set_aside", 0) == len(countable)
        if lost and damage not in (truncate, empty, delete, lose_a_page):
            assert list((journal_directory(database) / SET_ASIDE).iterdir())


def record_in_two_parts(database: Path, said: Acknowledgements) -> None:
    """An app that waits in the middle, until somebody has damaged what it recorded first."""
    journal = open_journal(database)
    for each in RECORDS[:20]:
        journal.append(each.payload)
    said.say(20)
    os.kill(os.getpid(), signal.SIGSTOP)
    for each in RECORDS[20:]:
        journal.append(each.payload)
    said.say(len(RECORDS))
    while not journal.is_stored(journal.position()):
        time.sleep(0.001)
    said.say(len(RECORDS) + 1)
    signal.pause()


@pytest.mark.usefixtures("small_segments")
def test_damage_in_the_segments_of_a_live_process_costs_only_what_is_damaged(scratch: Path) -> None:
    for seed in range(3):
        database = scratch / f"{seed}.db"
        with Acknowledgements() as said:
            app = Child(partial(record_in_two_parts, database, said), scratch / "errors")
            said.wait_for(20)
            os.waitid(os.P_PID, app.pid, os.WSTOPPED)  # to be woken before it sleeps would be to sleep for ever
            frames = [frame for path in segments_of(database) for frame in frames_of(path)]
            hit = random.Random(seed).choice(frames[:-1])
            overwrite(hit.path, hit.start + 30, b"damaged")
            os.kill(app.pid, signal.SIGCONT)
            said.wait_for(len(RECORDS))
            writer = Child(partial(run_writer, database), scratch / "errors")
            kept = [record for index, record in enumerate(RECORDS) if index != hit.index]
            said.wait_for(len(RECORDS) + 1)
            app.kill()
            assert writer.wait()
        check_whole(database)
        assert stored(database) == expected(kept)
        assert totals(database) == {"records_stored": len(kept), "records_set_aside": 1}


@pytest.mark.usefixtures("small_segments")
def test_a_segment_of_a_newer_format_is_left_untouched_and_named(scratch: Path) -> None:
    database = scratch / "traces.db"
    Child(partial(record, database, RECORDS[:5]), scratch / "errors").wait()
    (path,) = segments_of(database)
    page = bytearray(path.read_bytes()[:HEADER_BYTES])
    page[8] = 99
    page[120:128] = struct.pack("<Q", xxh3_64_intdigest(bytes(page[:120])))
    overwrite(path, 0, page)
    before = path.read_bytes()
    Child(partial(record, database, history(1, name="other")), scratch / "errors").wait()
    drain(database)
    assert stored(database) == expected(history(1, name="other"))
    assert path.read_bytes() == before
    assert "format 99" in log_of(database).read_text()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
@pytest.mark.usefixtures("small_segments")
def test_something_else_with_a_segments_name_stops_nobody(scratch: Path, make: Callable[[Path], None]) -> None:
    database = scratch / "traces.db"
    journal_directory(database).mkdir()
    make(journal_directory(database) / f"{'ab' * 16}-000000.segment")
    Child(partial(record, database, RECORDS), scratch / "errors").wait()
    drain(database)
    assert stored(database) == expected(RECORDS)
