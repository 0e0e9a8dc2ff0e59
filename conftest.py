"""Which tests stand on installed plugins, so that the others can be sure that there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).parent
#: Their tests use the example plugin, or are a plugin's own. All others hold where nothing but hush-core is installed.
_WITH_PLUGINS = [_ROOT / "tests" / "delivery", _ROOT / "examples", _ROOT / "plugins"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("hush").addoption(
        "--hush-plugins", choices=["absent", "installed"], default=None, help="only the tests for such an environment"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    wanted = config.getoption("--hush-plugins")
    if wanted is None or not collection_path.is_file():
        return None
    with_plugins = any(folder in collection_path.parents for folder in _WITH_PLUGINS)
    return True if with_plugins != (wanted == "installed") else None
