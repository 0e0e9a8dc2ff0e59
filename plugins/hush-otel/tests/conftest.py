"""What the plugin's tests stand on: a home and a database of their own, no variable of the person's, a collector."""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401 - before any TracerProvider, see below
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .collector import Collector

# After a fork, a provider of the SDK uses a ThreadPoolExecutor in the child at once. Handlers run in their order: one
# that is older than this import would wait, for ever, for the lock that this module's own handler has yet to free.

# Where the plugin is not installed there is nothing to test; what it needs is not there either.
collect_ignore_glob = ["*"] if find_spec("hush_otel") is None else []


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
    from .collector import Collector

    with Collector() as server:
        yield server
