"""What the tests of delivery share: a database with requests, and delivery processes that end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import TraceDatabase
from worker_process import Workers


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
