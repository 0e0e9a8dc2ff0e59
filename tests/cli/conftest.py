"""What the tests of the commands share: a database at the default path of the test, and `hush` in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hush_command import Hush
from trace_database import TraceDatabase


@pytest.fixture
def database(tmp_path: Path) -> Iterator[TraceDatabase]:
    """An empty database at the default path of the test."""
    made = TraceDatabase(tmp_path / "traces.db")
    yield made
    made.close()


@pytest.fixture
def hush() -> Hush:
    return Hush()
