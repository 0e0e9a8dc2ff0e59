"""What the tests of delivery share: a database with requests, delivery processes that end with the test, a place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import TraceDatabase
from worker_process import Workers

from .place import Place


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    for worker in workers.started:
        worker.left()


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Iterator[Place]:
    new = Place(tmp_path)
    yield new
    new.kill()
