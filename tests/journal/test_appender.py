"""The journal in the app's process: what `append` promises, whatever threads and the disk do."""

from __future__ import annotations

import errno
import os
import struct
import threading
from pathlib import Path

import pytest
from waiting import wait_until

from hush_core.journal import appender, refusal
from hush_core.journal.appender import SEGMENT_BYTES, Journal
from hush_core.journal.format import (
    AWAKE_UNTIL_AT,
    BELL_AT,
    DROP_REASONS,
    FAULT_AT,
    HEADER_BYTES,
    STORED_AT,
    unpack_dropped,
)
from hush_core.system import Files
from tests.journal.conftest import ORIGIN_PAYLOAD, Journals, read_whole, segment_numbers, sequences


def tell(journals: Journals, at: int, data: bytes) -> None:
    """What the writer does to the header of the latest segment."""
    fd = os.open(journals.segments()[-1], os.O_WRONLY)
    os.pwrite(fd, data, at)
    os.close(fd)


# -- what is appended -------------------------------------------------------------------------------------------------


def test_a_record_is_in_the_file_when_append_returns(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    for number in range(100):
        journal.append(b"record %d" % number)
        assert journals.records()[-1] == b"record %d" % number
    assert journals.records() == [b"record %d" % number for number in range(100)]


def test_nothing_is_made_before_the_first_record(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    assert not journals.directory.exists()
    assert not journal.is_open
    journal.append(b"x")
    assert journal.is_open


def test_a_journal_opens_with_where_it_comes_from(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    assert read_whole(journals.segments()[0]) == [ORIGIN_PAYLOAD, b"x"]


def test_sequences_are_contiguous_so_that_what_is_missing_can_be_counted(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    for _ in range(50):
        journal.append(b"x" * 20_000)  # over several segments
    first = journal.first_sequence
    assert sequences(journals.segments()) == [first - 1, *range(first, first + 50)]


def test_threads_lose_nothing_double_nothing_and_keep_each_its_own_order(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    start = threading.Barrier(8)

    def record(thread: int) -> None:
        start.wait()
        for number in range(1500):
            journal.append(b"%d %d %s" % (thread, number, b"x" * (number % 200)))

    threads = [threading.Thread(target=record, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(segment_numbers(journals.directory)) > 1
    by_thread: dict[int, list[int]] = {thread: [] for thread in range(8)}
    for payload in journals.records():
        thread_number, number, _ = payload.split(b" ")
        by_thread[int(thread_number)].append(int(number))
    assert by_thread == {thread: list(range(1500)) for thread in range(8)}
    found = sequences(journals.segments())
    assert sorted(found) == [journal.first_sequence - 1, *range(journal.first_sequence, journal.first_sequence + 12000)]
    assert journal.dropped == {}


def test_segments_grow_so_that_a_short_script_pays_little_and_a_busy_server_rolls_seldom(
    journals: Journals, kind: type[Files]
) -> None:
    journal = journals.open(kind())
    record = b"x" * 50_000
    while len(journals.segments()) < 5:
        journal.append(record)
    sizes = [os.stat(path).st_size for path in journals.segments()[:4]]
    expected = [*SEGMENT_BYTES, SEGMENT_BYTES[-1]]
    if kind().can_map(journals.directory):
        assert sizes == expected
    else:
        assert all(size <= most and size > most - 60_000 for size, most in zip(sizes, expected, strict=True))


def test_a_record_larger_than_a_segment_gets_one_that_holds_it(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind(), max_record_bytes=16 * 1024 * 1024)
    large = os.urandom(9 * 1024 * 1024)
    for payload in (b"before", large, b"after"):
        journal.append(payload)
    assert journals.records() == [b"before", large, b"after"]
    assert journals.shrunk == []


# -- records over the limit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [4096, 300_000, 4 * 1024 * 1024])
def test_a_record_over_the_limit_is_shrunk_and_one_of_exactly_the_limit_is_not(
    journals: Journals, kind: type[Files], limit: int
) -> None:
    journal = journals.open(kind(), max_record_bytes=limit)
    journal.append(b"first, so that a segment is open")
    journal.append(b"e" * limit)
    assert journals.shrunk == []
    journal.append(b"o" * (limit + 1))
    assert journals.shrunk == [(limit + 1, limit)]
    assert journals.records()[1:] == [b"e" * limit, b"o" * limit]
    assert journal.dropped == {}


def test_a_record_that_cannot_be_shrunk_is_counted_and_reported_and_never_raises(
    journals: Journals, kind: type[Files]
) -> None:
    def shrink(payload: bytes, limit: int) -> bytes:
        raise RuntimeError("cannot")

    journal = journals.open(kind(), max_record_bytes=5_000_000, shrink=shrink)
    journal.append(b"x" * 5_000_001)
    journal.append(b"kept")
    assert journal.dropped == {"too large": 1}
    assert journals.records() == [b"kept"]
    assert journals.reports == [("RuntimeError", "appending a record to the journal")]


# -- counting what cannot be kept -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", DROP_REASONS)
def test_a_dropped_record_is_counted_by_its_reason_where_the_writer_reads_it(
    journals: Journals, kind: type[Files], reason: str
) -> None:
    journal = journals.open(kind())
    journal.append(b"kept")
    journal.drop(reason)
    journal.drop(reason)
    assert journal.dropped == {reason: 2}
    assert unpack_dropped(journals.segments()[-1].read_bytes()) == {reason: 2}


def test_an_unknown_reason_counts_as_other(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.drop("the dog ate it")
    assert journal.dropped == {"other": 1}


def test_what_was_dropped_before_there_was_a_segment_is_in_the_first_ones_header(
    journals: Journals, kind: type[Files]
) -> None:
    journal = journals.open(kind())
    journal.drop("encoding failed")
    journal.append(b"kept")
    assert unpack_dropped(journals.segments()[0].read_bytes()) == {"encoding failed": 1}


def test_counts_go_along_into_the_next_segment(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"kept")
    journal.drop("too large")
    journal.append(b"x" * 400_000)
    assert len(journals.segments()) == 2
    journal.drop("other")
    assert unpack_dropped(journals.segments()[-1].read_bytes()) == {"too large": 1, "other": 1}


def test_a_dropped_record_takes_a_sequence_so_that_the_account_adds_up(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"one")
    journal.drop("other")
    journal.append(b"two")
    first = journal.first_sequence
    assert sequences(journals.segments()) == [first - 1, first, first + 2]


# -- a disk that refuses ----------------------------------------------------------------------------------------------


class Disk(Files):
    """A disk that fails with an error code for as long as one is set."""

    def __init__(self, inner: Files) -> None:
        self._inner = inner
        self.code: int | None = None
        self.calls = 0

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def _check(self) -> None:
        self.calls += 1
        if self.code is not None:
            raise OSError(self.code, os.strerror(self.code))

    def make_directory(self, path: Path) -> None:
        self._check()
        super().make_directory(path)

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        self._check()
        return super().open(path, flags, mode)

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self._check()
        return super().write(fd, data, offset)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk full"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "no permission"),
        (errno.EIO, "input/output error"),
        (errno.EMFILE, "no descriptor"),
        (errno.ENFILE, "no descriptor"),
        (errno.EFBIG, "other"),
        (errno.ENOTDIR, "other"),
    ],
)
def test_a_refusing_disk_is_counted_by_reason_reported_once_and_recovered_from(
    journals: Journals, kind: type[Files], code: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "_RETRY_AFTER_S", 0.02)
    disk = Disk(kind())
    disk.code = code
    journal = journals.open(disk)
    for _ in range(20):
        journal.append(b"lost")
    assert journal.dropped == {reason: 20}
    assert [doing for _, doing in journals.reports] == [f"writing the journal in {journals.directory}"]
    disk.code = None
    lost = 20

    def is_kept() -> bool:
        nonlocal lost
        journal.append(b"kept")
        if not journals.records():
            lost += 1
            return False
        return True

    wait_until(is_kept, "records to be kept again")
    assert journal.dropped == {reason: lost}
    assert unpack_dropped(journals.segments()[-1].read_bytes()) == {reason: lost}
    assert journals.records() == [b"kept"]


def test_a_refusal_long_after_the_last_one_is_news_and_one_soon_after_is_not(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: list[str] = []
    disk = Disk(kind())
    journal = journals.open(disk, solved=solved.append, max_record_bytes=2 * SEGMENT_BYTES[-1])
    doing = f"writing the journal in {journals.directory}"
    now = 1e6
    monkeypatch.setattr(refusal, "monotonic", lambda: now)
    for later, news in ((0, 1), (5, 1), (refusal._NEWS_AFTER_S + 1, 2), (5, 2), (3600, 3)):
        now += later
        journal.append(b"kept")
        disk.code = errno.ENOSPC
        journal.append(bytes(SEGMENT_BYTES[-1]))  # needs a segment of its own
        disk.code = None
        assert solved == [doing] * news
        assert ("OSError", doing) in journals.reports
        journals.reports.clear()
        now += refusal._RETRY_AFTER_S


def test_a_refusing_disk_is_not_asked_for_every_record(journals: Journals, kind: type[Files]) -> None:
    disk = Disk(kind())
    disk.code = errno.EACCES
    journal = journals.open(disk)
    for _ in range(1000):
        journal.append(b"lost")
    assert disk.calls < 50
    assert journal.dropped == {"no permission": 1000}


def test_a_plain_segment_takes_records_again_as_soon_as_the_disk_has_room(journals: Journals, tmp_path: Path) -> None:
    class Plain(Files):
        def can_map(self, directory: Path) -> bool:
            return False

    disk = Disk(Plain())
    journal = journals.open(disk)
    journal.append(b"before")
    disk.code = errno.ENOSPC
    journal.append(b"lost")
    disk.code = None
    journal.append(b"after")
    journal.append(b"x" * 400_000)  # needs the next segment, which is to be had at once too
    assert journal.dropped == {"disk full": 1}
    assert journals.records() == [b"before", b"after", b"x" * 400_000]
    assert unpack_dropped(journals.segments()[-1].read_bytes()) == {"disk full": 1}


def test_a_failure_of_another_kind_is_reported_too(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "_RETRY_AFTER_S", 0.0)
    disk = Disk(kind())
    journal = journals.open(disk)
    for code in (errno.ENOSPC, errno.ENOSPC, errno.EACCES, errno.EACCES):
        disk.code = code
        journal.append(b"lost")
    assert [problem for problem, _ in journals.reports] == ["OSError", "PermissionError"]


def test_an_origin_larger_than_the_first_segment_costs_no_record(journals: Journals, kind: type[Files]) -> None:
    origin = b"o" * 300_000
    journal = journals.open(kind(), origin=lambda: origin)
    journal.append(b"x" * 200_000)
    journal.append(b"y")
    assert journals.records() == [origin, b"x" * 200_000, b"y"]
    assert journal.dropped == {}


def test_a_record_is_kept_even_if_nobody_can_say_where_it_comes_from(journals: Journals, kind: type[Files]) -> None:
    def origin() -> bytes:
        raise UnicodeError("an odd working directory")

    journal = journals.open(kind(), origin=origin)
    for number in range(3):
        journal.append(b"%d" % number)
    assert journals.records() == [b"0", b"1", b"2"]
    assert journal.dropped == {}
    assert [problem for problem, _ in journals.reports] == ["UnicodeError"]


def test_a_full_segment_that_cannot_be_synced_costs_no_record(journals: Journals, kind: type[Files]) -> None:
    class NoSync(Files):
        def can_map(self, directory: Path) -> bool:
            return kind().can_map(directory)

        def sync(self, fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = journals.open(NoSync(), power_safe=True)
    for payload in (b"x", b"x" * 400_000):
        journal.append(payload)
    assert journals.records() == [b"x", b"x" * 400_000]
    assert [doing for _, doing in journals.reports] == ["syncing a full journal segment to the disk"]
    with pytest.raises(OSError):
        journal.sync_to_disk()


class FailingAt(Files):
    """Fails at the n-th of its calls, once."""

    def __init__(self, inner: Files, n: int) -> None:
        self._inner = inner
        self._left = n

    @property
    def failed(self) -> bool:
        return self._left <= 0

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def _check(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def __getattribute__(self, name: str) -> object:
        value = object.__getattribute__(self, name)
        if name.startswith("_") or name in ("can_map", "failed") or not callable(value):
            return value

        def checked(*args: object) -> object:
            self._check()
            return value(*args)

        return checked


@pytest.mark.parametrize("power_safe", [False, True], ids=["process", "power"])
def test_whatever_single_call_fails_nothing_raises_and_every_record_is_kept_or_counted(
    journals: Journals, kind: type[Files], power_safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusal, "_RETRY_AFTER_S", 0.0)
    n = 0
    while True:
        n += 1
        files = FailingAt(kind(), n)
        journal = journals.open(files, power_safe=power_safe)
        records = [b"%d %d %s" % (n, number, b"x" * 90_000) for number in range(5)]
        for record in records:
            journal.append(record)
        kept = journals.records(of=journal)
        assert [record for record in records if record in kept] == kept, f"the order changed at call {n}"
        assert len(kept) + sum(journal.dropped.values()) == len(records), f"call {n} lost a record"
        for path in journals.segments(of=journal):
            path.unlink()
        if not files.failed:
            break
    files._left = 0  # what is closed after the test does not fail
    assert n > 10


# -- the doorbell -----------------------------------------------------------------------------------------------------


def test_the_first_record_rings_and_the_following_do_not_while_the_writer_is_awake(
    journals: Journals, kind: type[Files]
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    assert journals.rings == 1
    tell(journals, AWAKE_UNTIL_AT, struct.pack("<d", 1e18))
    for _ in range(1000):
        journal.append(b"x")
    assert journals.rings == 1


def test_after_the_writer_armed_the_bell_the_next_record_rings_once(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    tell(journals, AWAKE_UNTIL_AT, struct.pack("<d", 1e18))
    tell(journals, BELL_AT, b"\1")
    for _ in range(10):
        journal.append(b"x")
    assert journals.rings == 2


def test_a_writer_that_broke_its_promise_is_rung_within_a_few_records(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    tell(journals, AWAKE_UNTIL_AT, struct.pack("<d", 1.0))  # long past: it was killed
    for _ in range(appender._TEND_EVERY):
        journal.append(b"y")
    assert journals.rings == 2
    journal.tend()
    assert journals.rings == 3


def test_a_ring_that_nobody_heard_is_repeated_with_the_next_record(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    tell(journals, AWAKE_UNTIL_AT, struct.pack("<d", 1.0))  # long past: it was killed
    journals.nobody_hears = True
    journal.tend()
    assert journals.rings == 2
    journal.append(b"y")
    assert journals.rings == 3
    journals.nobody_hears = False
    journal.append(b"y")
    assert journals.rings == 4
    tell(journals, AWAKE_UNTIL_AT, struct.pack("<d", 1e18))  # it was heard: else one record in 16 rings all the same
    for _ in range(appender._TEND_EVERY):
        journal.append(b"y")
    assert journals.rings == 4


def test_a_segment_that_the_disk_did_not_keep_is_left_for_a_new_one(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    journal.append(b"one")
    tell(journals, FAULT_AT, b"\1")
    tell(journals, BELL_AT, b"\1")
    for record in (b"two", b"three"):
        journal.append(record)
    assert [read_whole(path) for path in journals.segments()] == [[ORIGIN_PAYLOAD, b"one", b"two"], [b"three"]]
    assert journal.dropped == {}


# -- positions and syncs ----------------------------------------------------------------------------------------------


def test_a_position_is_stored_once_the_writer_has_published_it(journals: Journals, kind: type[Files]) -> None:
    journal = journals.open(kind())
    assert journal.is_stored(journal.position())  # nothing recorded: nothing to wait for
    journal.append(b"x")
    position = journal.position()
    assert not journal.is_stored(position)
    tell(journals, STORED_AT, struct.pack("<Q", position.offset - 1))
    assert not journal.is_stored(position)
    tell(journals, STORED_AT, struct.pack("<Q", position.offset))
    assert journal.is_stored(position)


def test_a_position_in_an_earlier_segment_is_stored_once_the_writer_has_begun_a_later_one(
    journals: Journals, kind: type[Files]
) -> None:
    journal = journals.open(kind())
    journal.append(b"x")
    position = journal.position()
    journal.append(b"x" * 400_000)
    assert journal.position().segment == position.segment + 1
    assert not journal.is_stored(position)
    tell(journals, STORED_AT, struct.pack("<Q", HEADER_BYTES))
    assert journal.is_stored(position)
    assert not journal.is_stored(journal.position())


class Syncs(Files):
    """Notes what is synced."""

    def __init__(self, inner: Files) -> None:
        self._inner = inner
        self.synced: list[str] = []

    def can_map(self, directory: Path) -> bool:
        return self._inner.can_map(directory)

    def sync(self, fd: int) -> None:
        self.synced.append(f"segment {self.identity(fd)[1]}")
        super().sync(fd)

    def sync_directory(self, directory: Path) -> None:
        self.synced.append("directory")
        super().sync_directory(directory)


def test_sync_to_disk_syncs_the_segment_and_once_the_directory_that_names_it(
    journals: Journals, kind: type[Files]
) -> None:
    files = Syncs(kind())
    journal = journals.open(files, power_safe=True)
    journal.sync_to_disk()
    assert files.synced == []  # nothing recorded: nothing to secure
    journal.append(b"x")
    segment = f"segment {os.stat(journals.segments()[0]).st_ino}"
    journal.sync_to_disk()
    assert files.synced == [segment, "directory"]
    journal.append(b"x")
    journal.sync_to_disk()
    assert files.synced == [segment, "directory", segment]


def test_a_power_safe_journal_syncs_each_segment_that_it_leaves(journals: Journals, kind: type[Files]) -> None:
    files = Syncs(kind())
    journal = journals.open(files, power_safe=True)
    journal.append(b"x")
    journal.append(b"x" * 400_000)
    assert files.synced == [f"segment {os.stat(journals.segments()[0]).st_ino}"]


def test_what_is_in_a_segment_that_was_left_is_safe_though_the_disk_gave_no_next_one(
    journals: Journals, kind: type[Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Files, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    files = Syncs(kind())
    journal = journals.open(files, power_safe=True)
    journal.append(b"x")
    monkeypatch.setattr(Syncs, "make_directory", refuse)
    journal.append(b"x" * 400_000)
    assert journal.dropped == {"disk full": 1}
    journal.sync_to_disk()
    assert files.synced == [f"segment {os.stat(journals.segments()[0]).st_ino}", "directory"]


def test_a_segment_that_could_not_be_synced_is_not_called_safe(journals: Journals, kind: type[Files]) -> None:
    class Failing(Syncs):
        is_failing = False

        def sync(self, fd: int) -> None:
            if self.is_failing:
                raise OSError(errno.EIO, "Input/output error")
            super().sync(fd)

    files = Failing(kind())
    journal = journals.open(files, power_safe=True)
    journal.append(b"x")
    files.is_failing = True
    journal.append(b"x" * 400_000)
    files.is_failing = False
    with pytest.raises(OSError, match="could not be synced"):
        journal.sync_to_disk()
    journal.sync_to_disk()
    assert journals.reports == [("OSError", "syncing a full journal segment to the disk")]
    assert journal.dropped == {}


def test_a_journal_that_need_not_outlive_a_power_cut_never_syncs(journals: Journals, kind: type[Files]) -> None:
    files = Syncs(kind())
    journal = journals.open(files)
    for _ in range(10):
        journal.append(b"x" * 100_000)
    assert files.synced == []


def test_two_journals_in_one_directory_do_not_mix(journals: Journals, kind: type[Files]) -> None:
    one, other = journals.open(kind()), journals.open(kind())
    for number in range(20):
        one.append(b"one %d" % number)
        other.append(b"other %d" % number)
    assert journals.records(of=one) == [b"one %d" % number for number in range(20)]
    assert journals.records(of=other) == [b"other %d" % number for number in range(20)]


def test_a_journal_that_nobody_holds_any_more_can_go(journals: Journals, kind: type[Files]) -> None:
    import gc
    import weakref

    journal = Journal(
        journals.directory,
        ring=lambda is_armed: None,
        origin=lambda: ORIGIN_PAYLOAD,
        shrink=lambda payload, limit: payload,
        report=lambda problem, doing: None,
        files=kind(),
    )
    journal.append(b"x")
    gone = weakref.ref(journal)
    del journal
    gc.collect()
    assert gone() is None
