"""Crash tests: the process dies at every call of the seams, at random instants, and under faults of the disk.

`seams` breaks the file system and the database connection, `children` are the processes that die, `history` knows what
must be stored of what they recorded. Every test ends in a check of the whole database.

Faults that need root (`disks`) or strace are skipped, with the reason, only where the system does not let them happen;
a test of such a fault fails when the fault did not come about.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hush_core.background import syncer, writer
from hush_core.journal import appender

SMALL_SEGMENTS = (4096, 8192, 16384)
_MEMORY = Path("/dev/shm")


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: a process that dies takes nothing from it, and a sync costs nothing."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < 1 << 30:
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="hush-crash-", dir=_MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that are full after a few records, so that a short history rolls, retires and recycles them."""
    monkeypatch.setattr(appender, "SEGMENT_BYTES", SMALL_SEGMENTS)
    monkeypatch.setattr(writer, "SEGMENT_BYTES", SMALL_SEGMENTS)


@pytest.fixture(autouse=True)
def restless_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer in a process forked from the test's does not rest: hundreds of them run one after the other."""
    monkeypatch.setattr(syncer, "_INTERVAL_S", 0.0005)
    monkeypatch.setattr(writer, "_REST_S", 0.0005)
    monkeypatch.setattr(writer, "_STORE_RETRY_S", 0.002)
