"""End to end, over real processes: whatever way an app runs, forks and ends, its traces are whole and nothing stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .app import App


@pytest.fixture
def app(tmp_path: Path, home: Path) -> Iterator[App]:
    new = App(tmp_path)
    yield new
    new.kill()
