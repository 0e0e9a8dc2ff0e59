"""`dev.py` says plainly what a machine lacks, and its closing line is never better than what ran."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import ModuleType

import pytest

from ..conftest import Share

CHECKOUT = Path(__file__).parents[2]
PASSED = '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="1"/></testsuites>'
FAILED = '<testsuites><testsuite tests="5" failures="2" errors="1" skipped="0"/></testsuites>'


@pytest.fixture
def dev(tmp_path: Path) -> ModuleType:
    """The module, of a copy in a folder of its own."""
    copy = shutil.copy(CHECKOUT / "dev.py", tmp_path / "dev.py")
    spec = importlib.util.spec_from_file_location("dev", copy)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finished(dev: ModuleType, sessions: dict[str, str], results: dict[str, str]) -> tuple[dict[str, int], str]:
    """What dev.py counts, and says, when those sessions ended so and left those results."""
    folder = Path(dev.RESULTS)
    folder.mkdir(parents=True)
    reported = [{"signatures": [name], "result": result} for name, result in sessions.items()]
    Path(dev.REPORT).write_text(json.dumps({"sessions": reported}))
    for name, text in results.items():
        (folder / f"{name}.xml").write_text(text)
    counts = dev.count_results()
    return counts, dev.closing_line(counts, 12.345)


def test_a_python_that_is_too_old_is_refused_with_what_to_do(dev: ModuleType) -> None:
    with pytest.raises(
        dev.CannotStart, match=r"hush needs Python 3\.10 or newer; this is 3\.9 .*\n.*python3\.12 dev\.py"
    ):
        dev.check_python((3, 9, 18))
    dev.check_python((3, 10, 0))


def test_dev_py_can_be_read_by_a_python_that_is_too_old() -> None:
    """The running Python stands in for an old one as far as it can: by the grammar of 3.7, the oldest that it knows."""
    import ast

    source = (CHECKOUT / "dev.py").read_text()
    ast.parse(source, feature_version=(3, 7))
    assert "from __future__ import annotations" not in source


def test_without_venv_and_without_pip_it_says_what_to_install(dev: ModuleType, tmp_path: Path) -> None:
    """A real Python that is made to lack both: it starts with modules in their place that fail."""
    for module in ("venv", "pip"):
        (tmp_path / f"{module}.py").write_text("raise ImportError('not on this machine')")
    lacking = tmp_path / "python"
    lacking.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec "{sys.executable}" "$@"\n')
    lacking.chmod(0o755)
    dev.sys = type("sys", (), {"executable": str(lacking)})  # only this module's view of which Python runs it
    with pytest.raises(dev.CannotStart, match=r"(?s)neither make a virtual environment nor run pip\..*apt install"):
        dev.make_environment()


def test_without_a_package_index_it_says_so(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(dev.CannotStart, match=r"(?s)could not install no-such-thing.*check the network.*pip said"):
        dev.install([sys.executable, "-m", "pip", "install", "--target", dev.NOX_DIR], "no-such-thing")


def test_what_passed_on_every_python_is_added_up(dev: ModuleType) -> None:
    counts, line = finished(
        dev,
        {"lint": "success", "tests-3.10": "success", "tests-3.11": "success", "tests-3.12": "skipped"},
        {"tests-3.10": PASSED, "tests-3.11": PASSED},
    )
    assert counts == {"failed": 0, "passed": 8, "skipped": 2, "error": 0}
    assert line.strip("=") == " 8 passed, 2 skipped in 12.35s "


def test_a_failed_test_and_a_failed_check_are_in_the_line(dev: ModuleType) -> None:
    counts, line = finished(dev, {"lint": "failed", "types": "success", "tests-3.11": "failed"}, {"tests-3.11": FAILED})
    assert line.strip("=") == " 2 failed, 2 passed, 2 errors in 12.35s "
    assert counts["error"] == 2


def test_a_session_that_ended_before_its_results_is_an_error(dev: ModuleType) -> None:
    counts, line = finished(dev, {"tests-3.11": "failed"}, {})
    assert (counts["error"], line.strip("=")) == (1, " 1 error in 12.35s ")


def test_nothing_that_ran_is_a_failure_and_is_said(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def skip_everything(arguments: list[str], **variables: str) -> int:
        Path(dev.REPORT).write_text('{"sessions": [{"signatures": ["tests-3.12"], "result": "skipped"}]}')
        return 0

    monkeypatch.setattr(dev, "run_nox", skip_everything)
    assert dev.run_checks([]) == 1
    assert capsys.readouterr().out.splitlines()[-1].strip("=").startswith(" no tests ran in ")


def test_results_of_an_earlier_run_do_not_count(dev: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(dev, {"tests-3.11": "success"}, {"tests-3.11": PASSED})
    monkeypatch.setattr(dev, "run_nox", lambda arguments, **variables: 0)
    assert dev.run_checks([]) == 1


def test_the_pythons_share_the_instants_of_the_crash_tests_only_where_all_of_them_run(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[dict[str, str]] = []
    monkeypatch.setattr(dev, "run_nox", lambda arguments, **variables: ran.append(variables))
    dev.run_checks([])
    dev.run_checks(["-k", "crash"])
    assert ran == [{"SHARE_OUT_CRASHES": "yes"}, {}]


@pytest.mark.parametrize("shares", [1, 3, 4])
def test_all_shares_together_are_every_instant_once_and_every_kill(shares: int) -> None:
    each = [Share(number, shares) for number in range(1, shares + 1)]
    assert sorted(at for share in each for at in islice(share.instants(), 10)) == list(range(1, 10 * shares + 1))
    assert sum(share.of(200) for share in each) == 200


def test_without_a_command_it_prints_how_it_is_used() -> None:
    done = subprocess.run([sys.executable, CHECKOUT / "dev.py"], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "demo [FOLDER]" in done.stdout


def test_what_ci_runs_is_the_readme_command() -> None:
    assert "python3 dev.py tests" in (CHECKOUT / ".ci" / "run").read_text()
    assert os.access(CHECKOUT / ".ci" / "run", os.X_OK)
