"""What the tests of plugins share: a folder to install them in, and one that a well-behaved plugin is in already."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import fake_plugin
import pytest

FAKE_PLUGINS = Path(__file__).parents[1] / "fake_plugins" / "site"


@pytest.fixture(autouse=True)
def modules_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test has imported is not there for the next, which may install another of the same name."""
    monkeypatch.setattr("hush_core.plugins.host._hosts", {})
    yield
    for name in [name for name in sys.modules if name.startswith(("fake_", "hush_vendor"))]:
        if name != "fake_plugin":
            del sys.modules[name]


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Put a folder on `sys.path`, here and in processes that are started."""

    def put(folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))

    return put


@pytest.fixture
def vendor(on_path: Callable[[Path], None]) -> None:
    """The plugin "vendor" of tests/fake_plugins is installed."""
    on_path(FAKE_PLUGINS)


@pytest.fixture
def install(tmp_path: Path, on_path: Callable[[Path], None]) -> Callable[..., None]:
    """`install(name, source, version, distribution=...)`: install a plugin whose module has that source."""
    folder = tmp_path / "site"
    folder.mkdir()
    on_path(folder)

    def put(name: str, source: str, version: str = "1.2.3", *, distribution: str = "") -> None:
        fake_plugin.install(folder, name, source, version, distribution=distribution)

    return put


@pytest.fixture
def offer() -> Callable[[str], str]:
    """The source of a plugin that offers a tracer of that name."""
    return offering


def offering(*names: str) -> str:
    calls = "\n".join(f"    register({name!r}, 'hush_core.tracers.local:LocalTracer')" for name in names)
    return f"from hush_core import hookimpl\n\n@hookimpl\ndef hush_register_tracers(register):\n{calls}\n"
