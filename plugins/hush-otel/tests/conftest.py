"""What the plugin's tests stand on: a home and a database of their own, no variable of the person's, a collector."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .collector import Collector


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is read or written."""
    folder = tmp_path / "home"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith(("HUSH_", "OTEL_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "traces.db"))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        yield server
