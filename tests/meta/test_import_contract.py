"""What a user's process loads is light: checked in fresh processes, where no other test has imported anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

import hush_core

#: What only the writer, the commands and the delivery load.
HEAVY = {
    "asyncio",
    "click",
    "hush_core.background.writer",
    "hush_core.cli",
    "hush_core.journal.reader",
    "hush_core.plugins.host",
    "hush_core.store.sqlite",
    "importlib.metadata",
    "importlib_metadata",
    "logging",
    "multiprocessing",
    "pluggy",
    "rich",
    "socket",
    "sqlite3",
    "subprocess",
    "tomllib",
    "tomli",
    "urllib.request",
}
#: The names of the host half: all that a workflow uses.
IMPORT_ALL = "from hush_core import " + ", ".join(hush_core.__all__)


def modules_after(code: str) -> set[str]:
    return set(in_fresh_process(f"{code}\nimport sys; print(*sys.modules)").split())


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("statement", ["import hush_core", IMPORT_ALL], ids=["the package", "every public name"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    loaded = modules_after(statement)
    assert "hush_core" in loaded
    # On Python 3.10, msgspec's uuid brings platform, which brings subprocess: nothing that hush could leave out.
    assert HEAVY & loaded <= modules_after("import msgspec, xxhash") - {"sqlite3", "pluggy", "click", "rich"}


def test_recording_loads_no_database() -> None:
    code = """
        from hush_core import LocalTracer, code_node
        @code_node
        def double(x): return 2 * x
        with LocalTracer().trace("light"):
            double(2)
    """
    loaded = modules_after("\n".join(line.removeprefix(" " * 8) for line in code.splitlines()))
    assert loaded.isdisjoint(
        {"sqlite3", "click", "rich", "pluggy", "importlib_metadata", "hush_core.plugins.host", "asyncio", "logging"}
    )


def test_asking_for_a_tracer_by_name_loads_plugins_and_no_database() -> None:
    loaded = modules_after("from hush_core import get_tracer; get_tracer('local')")
    assert {"hush_core.plugins.host", "pluggy"} <= loaded
    assert loaded.isdisjoint({"sqlite3", "click", "rich", "asyncio", "logging"})


def test_importing_the_package_prints_and_writes_nothing() -> None:
    assert in_fresh_process(f"{IMPORT_ALL}\nimport os; print(os.listdir())") == "['home']"


@pytest.mark.parametrize(
    ("statement", "over"),
    [("import hush_core", "pass"), (IMPORT_ALL, "import msgspec, xxhash")],
    ids=["the package, over bare Python", "every public name, over the libraries that they are made with"],
)
def test_importing_costs_at_most_three_times_what_starting_python_costs(
    statement: str, over: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The budget of 30 ms, where bare Python takes 10: as a ratio, since a figure in ms means nothing here.

    CPU time, and the median of alternating runs: what other tests take away, they take from each. With bytecode, as
    where hush is installed.
    """
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path / "bytecode"))
    codes = tuple(dict.fromkeys(("pass", over, statement)))
    for code in codes:
        cpu_seconds(code)  # compiles
    runs = [{code: cpu_seconds(code) for code in codes} for _ in range(15)]
    took = {code: median(run[code] for run in runs) for code in codes}
    with capsys.disabled():
        said = ", ".join(f"{code[:22]!r} {seconds * 1000:.1f} ms" for code, seconds in took.items())
        print(f"\nCPU of a process that runs only: {said}")
    assert took[statement] - took[over] <= 3 * took["pass"]


def cpu_seconds(code: str) -> float:
    """User and system time of one fresh process, as it sees it itself at its end."""
    return float(in_fresh_process(f"{code}\nimport time; print(time.process_time())"))
