"""What holds for every test: which of them stand on installed plugins, so that the others can be sure that there are
none; and that no test finds a secret where none belongs.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from canary import files_that_tell, is_told

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """After a test, with all its processes ended: the secret that tests use is in none of its files and outputs."""
    report = yield
    if report.when == "teardown" and report.passed:
        folder = (getattr(item, "funcargs", None) or {}).get("tmp_path")
        found = [] if folder is None else files_that_tell(folder)
        found += [name for name, text in report.sections if is_told(text)]
        if found:
            report.outcome, report.longrepr = "failed", "The secret of the tests (canary.py) is in " + ", ".join(found)
    return report
