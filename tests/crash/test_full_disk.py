"""A disk that is full, or may not be written: the workflow goes on, what is lost is counted, and it ends by itself.

Real file systems, mounted in a namespace of the test's own, and the real writer. All of a scenario happens in children
of the test's, because no other process sees those disks; a traceback in one of them fails the test.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from waiting import wait_until

from hush_core.background.supervisor import control, get_background, journal_directory

from . import disks
from .children import Child
from .history import Record, check_whole, expected, history, stored, totals

pytestmark = pytest.mark.usefixtures("mounts")

MB: Final = 1 << 20


@cache
def records() -> list[Record]:
    """Made in the child that wants them: 20 MB here would slow every fork of every test."""
    return history(1500, (4000,))


@pytest.fixture
def mounts() -> None:
    disks.require_mounts()


class App:
    """A workflow that records, and notes what was kept and what it was told."""

    def __init__(self, database: Path) -> None:
        self.reports: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda entry: self.reports.append(entry.getMessage())  # type: ignore[method-assign]
        logging.getLogger("hush").addHandler(handler)
        self.background = get_background(database)
        self._next = 0
        self.kept: list[int] = []

    def record(self, times: int = 1) -> bool:
        """Record what is next. Whether the last of it was kept."""
        for _ in range(times):
            before = self.background.dropped
            self.background.append(records()[self._next].payload)
            if self.background.dropped == before:
                self.kept.append(self._next)
            self._next += 1
        return self.kept[-1:] == [self._next - 1]

    def record_until_dropped(self, number: int) -> None:
        """Record for as long as the disk has room, and then some."""
        while sum(self.background.dropped.values()) < number:
            self.record()

    def record_until_kept(self) -> None:
        """Record now and then, until it is kept again."""
        wait_until(self.record, "the disk to be used again")

    def end(self, account: Path) -> None:
        """Wait until all that was kept is stored, and leave an account of it."""
        assert self.background.sync(30), "not everything was stored"
        account.write_text(json.dumps([self.kept, self.background.dropped, self.reports]))


def check(database: Path, account: Path, reason: str) -> None:
    """The app is gone. What it kept is stored once, what it dropped is counted by its reason; it was told once."""
    kept, dropped, reports = json.loads(account.read_text())
    answer = control(database, {"verb": "drain", "timeout_s": 10}, timeout=40)
    assert answer["drained"], answer
    check_whole(database)
    assert stored(database) == expected([records()[index] for index in kept])
    assert dropped.keys() == {reason}
    assert totals(database) == {"records_stored": len(kept), f"dropped:{reason}": dropped[reason]}
    assert len(reports) == 1, reports
    assert str(journal_directory(database)) in reports[0]


def in_mounts_of_its_own(folder: Path, scenario: Callable[[], None]) -> None:
    """Run a scenario in a process with a mount table of its own."""

    def run() -> None:
        disks.leave_the_mounts_of_others()
        scenario()

    Child(run, folder / "errors").wait(timeout_s=100.0)


def in_a_process(folder: Path, work: Callable[[], None]) -> None:
    """The part of a scenario that is the app."""
    Child(work, folder / "app-errors").wait(timeout_s=80.0)


def fill_and_free(app: App, disk: Path) -> None:
    filler = disks.Filler(disk)
    app.record(20)
    assert app.background.sync(30)
    filler.fill()
    app.record_until_dropped(50)
    filler.free()
    app.record_until_kept()
    app.record(100)


def find_it_full(app: App, disk: Path) -> None:
    filler = disks.Filler(disk)
    filler.fill()
    app.record_until_dropped(50)
    filler.free()
    app.record_until_kept()
    app.record(100)


def fill_again_and_again(app: App, disk: Path) -> None:
    filler = disks.Filler(disk)
    for round_number in range(1, 4):
        filler.fill()
        app.record_until_dropped(20 * round_number)
        filler.free()
        app.record_until_kept()
        app.record(30)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
@pytest.mark.parametrize("what_happens", [fill_and_free, find_it_full, fill_again_and_again])
def test_a_workflow_goes_on_when_the_disk_is_full_and_records_again_when_it_is_not(
    tmp_path: Path, kind: str, what_happens: Callable[[App, Path], None]
) -> None:
    disk, account = tmp_path / "disk", tmp_path / "account"
    database = disk / "traces.db"

    def be_the_app() -> None:
        app = App(database)
        what_happens(app, disk)
        app.end(account)

    def scenario() -> None:
        disks.mount_small_disk(kind, disk, 24 * MB)
        in_a_process(tmp_path, be_the_app)
        check(database, account, "disk full")

    in_mounts_of_its_own(tmp_path, scenario)


def test_what_was_kept_when_the_traces_themselves_filled_the_disk_is_stored_once_there_is_room(tmp_path: Path) -> None:
    disk, account = tmp_path / "disk", tmp_path / "account"
    database = disk / "traces.db"

    def be_the_app() -> None:
        app = App(database)
        app.record_until_dropped(50)
        disks.resize(disk, 64 * MB)
        app.record_until_kept()
        app.end(account)

    def scenario() -> None:
        disks.mount_small_disk("tmpfs", disk, 6 * MB)
        in_a_process(tmp_path, be_the_app)
        check(database, account, "disk full")

    in_mounts_of_its_own(tmp_path, scenario)


def test_a_workflow_goes_on_beside_a_read_only_folder_and_records_when_it_is_writable(tmp_path: Path) -> None:
    disk, account = tmp_path / "disk", tmp_path / "account"
    database = disk / "traces.db"

    def be_the_app() -> None:
        app = App(database)
        app.record_until_dropped(50)
        disks.make_writable(disk)
        app.record_until_kept()
        app.record(50)
        app.end(account)

    def scenario() -> None:
        disk.mkdir()
        disks.make_read_only(disk)
        in_a_process(tmp_path, be_the_app)
        check(database, account, "no permission")

    in_mounts_of_its_own(tmp_path, scenario)


def test_a_workflow_of_a_user_who_may_not_write_goes_on_and_counts(tmp_path: Path) -> None:
    disk, account = tmp_path / "disk", tmp_path / "account"
    disk.mkdir(mode=0o700)
    account.touch()
    said = os.open(account, os.O_WRONLY)

    def be_the_app() -> None:
        os.chdir("/")
        os.setuid(65534)
        app = App(disk / "traces.db")
        app.record(100)
        os.write(said, json.dumps([app.background.dropped, app.reports]).encode())

    in_a_process(tmp_path, be_the_app)
    os.close(said)
    dropped, reports = json.loads(account.read_text())
    assert dropped == {"no permission": 100}
    assert len(reports) == 1
    assert "Permission denied" in reports[0]
    assert list(disk.iterdir()) == []
