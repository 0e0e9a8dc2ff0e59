"""All journals of a folder: one that cannot be looked at stops no other, and is looked at again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hush_core.background.doorbell import Doorbell
from hush_core.background.problems import Problems
from hush_core.background.sources import Sources
from hush_core.system import Files
from tests.journal.conftest import Journals, run_in_child


class Disk(Files):
    """Refuses to list the folder, or to give a lock, while it is told to."""

    refuses = False

    def _check(self) -> None:
        if self.refuses:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def list(self, directory: Path) -> list[str]:
        self._check()
        return super().list(directory)

    def lock(self, fd: int) -> bool:
        self._check()
        return super().lock(fd)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def sources(journals: Journals, disk: Disk, said: list[str]) -> Iterator[Sources]:
    journals.directory.mkdir()
    bell = Doorbell(journals.directory, lambda request: request)
    made = Sources(disk, journals.directory, bell, Problems(said.append), said.append, dict)
    yield made
    made.close()
    bell.close()


def record_and_end(journals: Journals) -> None:
    run_in_child(lambda: journals.open().append(b"x"))


def test_an_owner_that_cannot_be_looked_after_when_it_ends_is_looked_after_at_the_next_scan(
    journals: Journals, sources: Sources, disk: Disk, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readable, writable = os.pipe()
    monkeypatch.setattr("hush_core.background.sources.watch_process", lambda who: readable)
    record_and_end(journals)
    assert sources.scan()
    (source,) = sources
    os.close(writable)  # as if it ended now
    disk.refuses = True
    assert sources.check_ready([readable])
    assert not source.gone
    assert said == [f"looking after the owner of journal {source.name}: [Errno 5] Input/output error"]
    disk.refuses = False
    sources.scan()
    assert source.gone


def test_an_owner_that_cannot_be_looked_after_keeps_no_scan_from_the_others(
    journals: Journals, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hush_core.background.sources.watch_process", lambda who: None)
    record_and_end(journals)
    record_and_end(journals)
    sources.scan()
    first, second = sources
    assert first.gone and second.gone
    first.gone = second.gone = False

    def refuse(*_: Any) -> bool:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(first, "check_owner", refuse)
    sources.scan()
    assert second.gone
