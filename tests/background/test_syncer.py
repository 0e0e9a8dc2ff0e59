"""The syncer: what is noted is on the disk soon, each file once, and a failed sync is said once and never repeated."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from hush_core.background.syncer import Syncer
from hush_core.system import Files


class Disk(Files):
    """Notes what is synced, by the file's name; may refuse, and may be slow."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.refuses: set[str] = set()
        self.slow: threading.Event | None = None

    def sync(self, fd: int) -> None:
        self._sync(os.readlink(f"/proc/self/fd/{fd}") if os.path.exists("/proc") else str(os.fstat(fd).st_ino))

    def sync_directory(self, directory: Path) -> None:
        self._sync(str(directory))

    def _sync(self, path: str) -> None:
        if self.slow is not None:
            assert self.slow.wait(10)
        name = os.path.basename(path)
        self.synced.append(name)
        if name in self.refuses:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def faults() -> list[tuple[int, int | None]]:
    """What the syncer said: the descriptor, and why."""
    return []


@pytest.fixture
def syncer(disk: Disk, faults: list[tuple[int, int | None]], tmp_path: Path) -> Iterator[Syncer]:
    made = Syncer(disk, tmp_path, lambda fd, problem: faults.append((fd, problem.errno)))
    made.start()
    yield made
    if disk.slow is not None:
        disk.slow.set()
    made.stop()


Open = Callable[[str], int]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    fds = []

    def open_file(name: str) -> int:
        fds.append(os.open(tmp_path / name, os.O_RDWR | os.O_CREAT))
        return fds[-1]

    yield open_file
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


pytestmark = pytest.mark.skipif(not os.path.exists("/proc"), reason="tells files by their names in /proc")


def test_what_is_noted_is_synced(syncer: Syncer, disk: Disk, opened: Open) -> None:
    syncer.note([opened("a"), opened("b")])
    wait_until(lambda: sorted(disk.synced) == ["a", "b"], "both to be synced")


def test_nothing_is_synced_that_nobody_noted(syncer: Syncer, disk: Disk, opened: Open) -> None:
    opened("a")
    syncer.note([])
    syncer.note([opened("b")])
    wait_until(lambda: bool(disk.synced), "a sync")
    syncer.stop()
    assert disk.synced == ["b"]


def test_a_segment_noted_many_times_is_synced_few_times(syncer: Syncer, disk: Disk, opened: Open) -> None:
    disk.slow = threading.Event()
    fd = opened("a")
    for _ in range(1000):
        syncer.note([fd])
    disk.slow.set()
    syncer.stop()
    assert 1 <= len(disk.synced) <= 2


def test_what_is_noted_while_it_is_being_synced_is_synced_again(syncer: Syncer, disk: Disk, opened: Open) -> None:
    disk.slow = threading.Event()
    fd = opened("a")
    syncer.note([fd])
    wait_until(lambda: not syncer._pending, "the sync to begin")
    syncer.note([fd])
    disk.slow.set()
    wait_until(lambda: disk.synced == ["a", "a"], "the second sync")


def test_the_directory_is_synced_when_its_names_change(syncer: Syncer, disk: Disk, tmp_path: Path) -> None:
    syncer.note_directory()
    wait_until(lambda: disk.synced == [tmp_path.name], "the directory to be synced")


def test_a_file_that_is_closed_before_its_turn_is_synced_all_the_same(syncer: Syncer, disk: Disk, opened: Open) -> None:
    disk.slow = threading.Event()
    syncer.note([opened("first")])
    wait_until(lambda: not syncer._pending, "the first sync to begin")
    fd = opened("second")
    syncer.note([fd])
    os.close(fd)
    disk.slow.set()
    wait_until(lambda: disk.synced == ["first", "second"], "the closed one to be synced")


def test_a_number_that_went_to_another_file_means_both(syncer: Syncer, disk: Disk, opened: Open) -> None:
    """The writer closes one segment and opens the next: it often gets the same number."""
    disk.slow = threading.Event()
    syncer.note([opened("first")])
    wait_until(lambda: not syncer._pending, "the first sync to begin")
    before = opened("old segment")
    syncer.note([before])
    os.close(before)
    after = opened("new segment")
    assert after == before
    syncer.note([after])
    disk.slow.set()
    wait_until(lambda: len(disk.synced) == 3, "all to be synced")
    assert sorted(disk.synced) == ["first", "new segment", "old segment"]


def test_stopping_syncs_what_is_pending(disk: Disk, tmp_path: Path, opened: Open) -> None:
    syncer = Syncer(disk, tmp_path, lambda fd, problem: None)
    syncer.start()
    syncer.note([opened("a")])
    syncer.note_directory()
    syncer.stop()
    assert disk.synced == ["a", tmp_path.name]


def test_a_failed_sync_is_said_once_and_the_others_go_on(
    syncer: Syncer, disk: Disk, opened: Open, faults: list[tuple[int, int | None]]
) -> None:
    disk.refuses.add("bad")
    bad, good = opened("bad"), opened("good")
    syncer.note([bad, good])
    wait_until(lambda: sorted(disk.synced) == ["bad", "good"], "both to be tried")
    assert faults == [(bad, errno.EIO)]
    assert syncer.faults == 1


def test_a_segment_that_the_disk_failed_to_keep_is_never_tried_again(
    syncer: Syncer, disk: Disk, opened: Open, faults: list[tuple[int, int | None]]
) -> None:
    """The kernel calls the pages clean after a failed sync: a second one would succeed, and lie."""
    disk.refuses.add("bad")
    bad = opened("bad")
    syncer.note([bad])
    wait_until(lambda: bool(faults), "the fault")
    disk.refuses.clear()
    for _ in range(3):
        syncer.note([bad])
    syncer.note([opened("good")])
    wait_until(lambda: "good" in disk.synced, "the next sync")
    assert disk.synced == ["bad", "good"]
    assert len(faults) == 1


def test_another_segment_in_the_same_file_is_tried_again(
    syncer: Syncer, disk: Disk, opened: Open, faults: list[tuple[int, int | None]]
) -> None:
    disk.refuses.add("recycled")
    fd = opened("recycled")
    os.write(fd, b"the header of one segment")
    syncer.note([fd])
    wait_until(lambda: len(faults) == 1, "the fault")
    os.pwrite(fd, b"the header of the next one", 0)
    syncer.note([fd])
    wait_until(lambda: len(faults) == 2, "the second fault")
    syncer.note([fd])
    syncer.stop()
    assert disk.synced == ["recycled", "recycled"]


def test_a_directory_that_cannot_be_synced_is_said(
    syncer: Syncer, disk: Disk, tmp_path: Path, faults: list[tuple[int, int | None]]
) -> None:
    disk.refuses.add(tmp_path.name)
    syncer.note_directory()
    wait_until(lambda: faults == [(-1, errno.EIO)], "the fault")


def test_a_segment_whose_header_cannot_be_read_either_stops_nobody(
    syncer: Syncer, disk: Disk, opened: Open, faults: list[tuple[int, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(disk, "read", refuse)
    disk.refuses.add("bad")
    bad = opened("bad")
    for _ in range(3):
        syncer.note([bad])
        wait_until(lambda: not syncer._pending and bool(faults), "the bad one's turn")
    syncer.note([opened("good")])
    wait_until(lambda: disk.synced == ["bad", "good"], "the good one to be synced")
    assert faults == [(bad, errno.EIO)]


def test_whoever_is_told_of_a_fault_may_fail_too(disk: Disk, tmp_path: Path, opened: Open) -> None:
    def tell(fd: int, problem: OSError) -> None:
        raise OSError(errno.EBADF, "the segment was closed meanwhile")

    syncer = Syncer(disk, tmp_path, tell)
    syncer.start()
    disk.refuses |= {"bad", tmp_path.name}
    syncer.note([opened("bad"), opened("good")])
    wait_until(lambda: sorted(disk.synced) == ["bad", "good"], "both to be tried")
    syncer.note_directory()
    wait_until(lambda: syncer.faults == 2, "the fault of the folder")
    syncer.note([opened("next")])
    syncer.stop()
    assert disk.synced[-1] == "next"


def test_a_segment_that_cannot_be_noted_is_said_and_the_others_are_synced(
    syncer: Syncer, disk: Disk, opened: Open, faults: list[tuple[int, int | None]]
) -> None:
    closed, good = opened("closed"), opened("good")
    os.close(closed)
    syncer.note([closed, good])
    wait_until(lambda: disk.synced == ["good"], "the other one to be synced")
    assert faults == [(closed, errno.EBADF)]
    assert syncer.faults == 1


def test_no_descriptor_is_left_open(syncer: Syncer, disk: Disk, opened: Open) -> None:
    fds = [opened(f"{number}") for number in range(10)]
    before = len(os.listdir("/proc/self/fd"))
    disk.refuses.add("3")
    for _ in range(5):
        syncer.note(fds)
    syncer.stop()
    assert len(os.listdir("/proc/self/fd")) == before
