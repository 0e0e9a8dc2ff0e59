"""What the tests of the commands share: a database at the default path of the test, and `hush` in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from box import Box
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


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path`, here and in processes that are started, for `fake_plugin.install`."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
    monkeypatch.setattr("hush_core.plugins.host._hosts", {})  # of another test's plugins, by the same names
    yield folder
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


@pytest.fixture
def box(tmp_path: Path, plugins: Path) -> Box:
    """A backend, with the tracers `prod` and `other` in the settings."""
    made = Box(tmp_path / "box", plugins)
    Path("hush.toml").write_text(made.settings("prod", "other"))
    return made
