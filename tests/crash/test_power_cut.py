"""The power goes: the disk holds what was synced, and of the rest whatever it likes.

A model of such a disk watches one process that is app and writer at once. After every sync it keeps an image of what a
power cut would leave then; later a fresh writer has to make the best of each image.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from waiting import wait_until

from hush_core.background.supervisor import journal_directory
from hush_core.model import NODE
from hush_core.store.database import open_database
from hush_core.system import Files

from .children import Child, drain, open_journal, run_writer
from .history import Record, check_whole, text_of

_PAGE: Final = 4096
RECORDS: Final = [
    Record(NODE, "r", {"node_name": "n", "execution_order": number, "input_data": text_of(number, size)})
    for number, size in enumerate([60, 700, 2500, 5000] * 15)
]


class Disk(Files):
    """A disk that forgets what was not synced, and says after every sync what it would have kept.

    A file's content is kept as it was at its last sync, a name as it was at the last sync of its directory, and the
    database as it was at its last commit with `synchronous = FULL`.
    """

    def __init__(self, database: Path, images: Path) -> None:
        self._directory = journal_directory(database)
        self._images = images
        self._lock = threading.RLock()
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        self._database: Path | None = None
        self._number = 0
        self.appended = self.promised = 0

    def sync(self, fd: int) -> None:
        with self._lock:
            self._contents[os.fstat(fd).st_ino] = _content(fd)
            self.keep_image()

    def sync_directory(self, directory: Path) -> None:
        if directory == self._directory:
            with self._lock:
                self._names = {path.name: path.stat().st_ino for path in directory.glob("*.segment")}
                self.keep_image()

    def rename(self, old: Path, new: Path) -> None:
        with self._lock:  # no name comes or goes while an image is made
            super().rename(old, new)

    def unlink(self, path: Path) -> None:
        with self._lock:
            super().unlink(path)

    def connect(self, path: Path) -> Any:
        return _Connection(open_database(path), self)

    def keep_database(self, connection: sqlite3.Connection) -> None:
        """The database was committed for good."""
        with self._lock:
            self._number += 1
            self._database = self._images / f"{self._number}.database"
            with closing(sqlite3.connect(self._database)) as copy:
                connection.backup(copy)
            self.keep_image()

    def stop(self) -> None:
        """Let nobody sync any more: the process ends, and no image shall be half made."""
        self._lock.acquire()

    def is_safe(self) -> bool:
        """Whether everything that was recorded would survive a power cut now."""
        with self._lock:
            kept = b"".join(self._contents.get(inode, b"") for inode in self._names.values())
            stored = set(recovered(self._database)) if self._database is not None else set()
        return all(number in stored or record.payload in kept for number, record in enumerate(RECORDS))

    def keep_image(self) -> None:
        """An image of what is synced, and one with some of what is not."""
        dice = random.Random(self._number)
        kept = {name: self._contents.get(inode, b"") for name, inode in self._names.items()}
        self._write_image(kept)
        present = dict(kept) if dice.random() < 0.5 else {}
        for path in self._directory.glob("*.segment"):
            if path.name in kept or dice.random() < 0.5:
                present[path.name] = _mix(dice, kept.get(path.name, b""), path.read_bytes())
        self._write_image(present)

    def _write_image(self, files: dict[str, bytes]) -> None:
        self._number += 1
        folder = self._images / f"{self._number}"
        directory = journal_directory(folder / "traces.db")
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        if self._database is not None:
            shutil.copy(self._database, folder / "traces.db")
        (folder / "said").write_text(json.dumps([self.promised, self.appended]))


class _Connection:
    """A connection that tells the disk of each commit that is for good."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._connection = connection
        self._disk = disk
        self._durable = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        cursor = self._connection.execute(statement, *arguments)
        if statement.startswith("PRAGMA synchronous"):
            self._durable = statement.endswith("FULL")
        if statement == "COMMIT" and self._durable:
            self._disk.keep_database(self._connection)
        return cursor


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _mix(dice: random.Random, old: bytes, new: bytes) -> bytes:
    """A file of which some pages were written back, and others not."""
    pages = []
    for at in range(0, len(new), _PAGE):
        before = old[at : at + _PAGE].ljust(min(_PAGE, len(new) - at), b"\0")
        pages.append(new[at : at + _PAGE] if dice.random() < 0.5 else before)
    return b"".join(pages)


def record_and_write(database: Path, images: Path, power_safe: bool) -> None:
    """App and writer in one process, on such a disk."""
    disk = Disk(database, images)
    journal_directory(database).mkdir()
    writer = threading.Thread(target=run_writer, args=(database, disk), kwargs={"connect": disk.connect}, daemon=True)
    journal = open_journal(database, disk, power_safe=power_safe)
    for number, record in enumerate(RECORDS):
        journal.append(record.payload)
        disk.appended = number + 1
        if number == 0:
            writer.start()
        if power_safe and number % 7 == 0:
            journal.sync_to_disk()
            disk.promised = number + 1
        time.sleep(0.001)  # let the writer come in between
    if not power_safe:  # nobody syncs in the app: the writer does, within moments of the last record
        wait_until(disk.is_safe, "the writer to sync what was recorded")
        disk.promised = len(RECORDS)
        disk.keep_image()
    disk.stop()


def recovered(database: Path) -> list[int]:
    """The numbers of the records that a database holds, each of which must be whole."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT execution_order, input_data FROM node JOIN node_payload ON node_payload.node = node.id"
        ).fetchall()
    for number, text in rows:
        assert json.loads(text) == RECORDS[number].fields["input_data"]
    return sorted(number for number, _ in rows)


@pytest.mark.parametrize("power_safe", [True, False], ids=["power", "process"])
@pytest.mark.usefixtures("small_segments")
def test_after_a_power_cut_at_any_sync_what_was_promised_is_stored_and_nothing_twice(
    scratch: Path, power_safe: bool
) -> None:
    images = scratch / "images"
    images.mkdir()
    work = partial(record_and_write, scratch / "traces.db", images, power_safe)
    assert Child(work, scratch / "errors").wait()
    folders = sorted((path for path in images.iterdir() if path.is_dir()), key=lambda path: int(path.name))
    for folder in folders:
        promised, appended = json.loads((folder / "said").read_text())
        print(f"image {folder.name}: {promised} promised, {appended} appended")
        drain(folder / "traces.db")
        check_whole(folder / "traces.db")
        numbers = recovered(folder / "traces.db")
        assert len(numbers) == len(set(numbers)), "stored twice"
        assert set(range(promised)) <= set(numbers), "lost"
        assert set(numbers) <= set(range(appended + 1)), "invented"
    assert len(folders) > 20
    assert promised > len(RECORDS) - 10
