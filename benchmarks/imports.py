"""What `import hush_core` costs a process, and what it brings with it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.result import Budget, Figure, Result
from benchmarks.session import LANGFUSE, OTEL, TITLES, Session
from benchmarks.worker import ROOT, environment

_PACKAGE: Final = "import hush_core"
#: The package alone loads next to nothing, since a name is imported when it is first used: so this is shown as well.
_NAMES: Final = "import of the names that an app uses"
_HUSH: Final = {
    _PACKAGE: _PACKAGE,
    _NAMES: "from hush_core import LocalTracer, MemoryState, TraceStore, code_node, get_background, get_store",
}
_OTHERS: Final = {OTEL: "import opentelemetry.sdk.trace", LANGFUSE: "import langfuse"}
_BUDGETS: Final = {_PACKAGE: Budget(30.0, "at most")}
_FORBIDDEN: Final = ("sqlite3", "pluggy", "click", "rich", "opentelemetry", "langfuse")


def measure(session: Session) -> list[Result]:
    """Wall time of a process that imports and ends, over that of one that does nothing, in turns; and the modules."""
    pythons = {LANGFUSE: session.langfuse_python}
    statements = _HUSH | {
        name: text for name, text in _OTHERS.items() if _works(session.folder, text, pythons.get(name, sys.executable))
    }
    over: dict[str, list[float]] = {what: [] for what in statements}
    for _ in range(session.scale.imports):
        for what, text in statements.items():
            python = pythons.get(what, sys.executable)
            nothing = _wall_ms(session.folder, "pass", python)
            over[what].append(_wall_ms(session.folder, text, python) - nothing)
    times, modules = [], []
    for what, text in _HUSH.items():
        heavy = _heavy_modules(session.folder, text)
        modules.append(
            Result(
                "imports",
                f"{what}: heavy packages loaded",
                Figure(len(heavy), "packages"),
                budget=Budget(0, "at most"),
                note=", ".join(heavy),
            )
        )
        times += _beside_others(what, over)
    return times + modules


def _beside_others(what: str, over: dict[str, list[float]]) -> list[Result]:
    """One row beside each of the others that could be imported, or one alone."""
    measured, budget = Figure(median(over[what]), "ms"), _BUDGETS.get(what)
    others = [name for name in _OTHERS if name in over]
    if not others:
        return [Result("imports", what, measured, budget=budget, details={"over_ms": over})]
    first, *rest = [
        Result("imports", what, measured, TITLES[name], Figure(median(over[name]), "ms"), details={"over_ms": over})
        for name in others
    ]
    return [replace(first, budget=budget), *rest]


def _run(folder: Path, text: str, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", text], cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=False
    )


def _works(folder: Path, text: str, python: str) -> bool:
    return _run(folder, text, python).returncode == 0


def _wall_ms(folder: Path, text: str, python: str) -> float:
    begin = time.perf_counter()
    done = _run(folder, text, python)
    taken = time.perf_counter() - begin
    if done.returncode:
        raise RuntimeError(f"{text!r} failed: {done.stderr.strip()}")
    return taken * 1000


def _heavy_modules(folder: Path, text: str) -> list[str]:
    """Those of the forbidden packages that a statement loads."""
    listing = _run(folder, f"{text}\nimport json, sys\nprint(json.dumps(list(sys.modules)))", sys.executable)
    packages = {name.partition(".")[0] for name in json.loads(listing.stdout)}
    return [name for name in _FORBIDDEN if name in packages]
