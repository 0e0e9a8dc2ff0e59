"""Each command answers within 150 ms, the whole process counted, on a database of 100,000 requests.

What is asserted is the processor time: a command waits for nothing, so it takes as long on a machine that has a
processor for it. What it took by the clock, among the other tests, is printed (`pytest -s`) and in the JUnit report.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from hush_command import COMMAND
from trace_database import fill

REQUESTS = 100_000
BUDGET_MS = 150.0
#: The processor time of an interpreter that does nothing, where the budget was measured. A machine that is slower has
#: more time by as much.
BARE_MS = 10.0
RUNS = 3
RUNS_MAX = 40


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by the first of the test processes that wants it; no command changes it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "large"
    with (shared / "large.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp("unfinished")
            fill(unfinished / "traces.db", REQUESTS)
            (unfinished / "traces.db").chmod(0o600)
            unfinished.rename(folder)
    return folder / "traces.db"


@pytest.fixture(autouse=True)
def keep_everything(tmp_path: Path) -> None:
    """The requests are old, and a writer that is started would delete them."""
    (tmp_path / "hush.toml").write_text("[store]\nkeep = 'forever'\nmax_size = 'unlimited'\n")


def run(command: list[str], *, lines: int | None = None) -> tuple[float, float]:
    """Processor and clock time of a process in ms; with ``lines``, it is ended when it has printed so many."""
    before = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    if lines is None:
        process.stdout.read()
    else:
        for _ in range(lines):
            assert process.stdout.readline()
        process.kill()
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # waited for here, where the processor time is told
    taken = (time.perf_counter() - before) * 1000
    process.stdout.close()
    return (used.ru_utime + used.ru_stime) * 1000, taken


def is_within_budget(bare: list[float], taken: list[tuple[float, float]]) -> bool:
    return min(cpu for cpu, _ in taken) <= BUDGET_MS * max(1.0, min(bare) / BARE_MS)


@pytest.fixture
def measure(large: Path, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    def measure(*arguments: str, lines: int | None = None) -> None:
        bare: list[float] = []
        taken: list[tuple[float, float]] = []
        # The best counts, as other tests are at work: of more runs where it has not shown yet that it can be so quick.
        while len(taken) < RUNS or (len(taken) < RUNS_MAX and not is_within_budget(bare, taken)):
            bare.append(run([sys.executable, "-c", "pass"])[0])
            taken.append(run([*COMMAND, *arguments, "--db", str(large)], lines=lines))
        cpu_ms, clock_ms = (median(times) for times in zip(*taken, strict=True))
        record_property("cpu_ms", round(cpu_ms))
        record_property("clock_ms", round(clock_ms))
        print(f"\nhush {' '.join(arguments)}: {cpu_ms:.0f} ms, by the clock {clock_ms:.0f} (python: {min(bare):.0f})")
        assert is_within_budget(bare, taken)

    return measure


@pytest.mark.parametrize(
    "arguments",
    [
        ["traces"],
        ["traces", "--json", "-n", "100"],
        ["traces", "--status", "failed"],
        ["traces", "--status", "running"],
        ["traces", "--tag", "prod"],
        ["traces", "--tag", "once"],
        ["traces", "--tag", "prod", "--tag", "vip"],
        ["traces", "--tag", "prod", "--tag", "once"],
        ["traces", "--workflow", "flow-3", "--user", "user-5"],
        ["traces", "--tag", "prod", "--workflow", "none"],
        ["traces", "--since", "2025-02-01T15:00"],
        ["show"],
        ["show", "660fb4a0", "--full", "--io"],
        ["show", "660fb4a0", "--json"],
        ["show", "unknown"],
        ["stats"],
        ["stats", "--json", "--by", "node"],
        ["stats", "--workflow", "flow-3"],
        ["stats", "--tag", "vip", "--status", "completed"],
        ["stats", "--since", "2025-02-01T15:00"],
        ["tracers"],
        ["tracers", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["redrive", "--tracer", "none"],
        ["prune", "--keep", "36500d", "--dry-run"],
    ],
    ids=" ".join,
)
def test_a_command_answers_within_150_ms(measure: Callable[..., None], arguments: list[str]) -> None:
    measure(*arguments)


def test_tail_shows_the_newest_nodes_within_150_ms(measure: Callable[..., None]) -> None:
    measure("tail", lines=10)
