"""`python -m benchmarks`: measure everything, print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import (
    asleep,
    call,
    capture,
    deliver,
    first_tracer,
    imports,
    instructions,
    memory,
    rate,
    visibility,
    worst,
)
from benchmarks.result import Result
from benchmarks.session import FULL, QUICK, Session
from benchmarks.table import render
from hush_core.system import filesystem_of

_BENCHMARKS: Final[dict[str, Callable[[Session], list[Result]]]] = {
    "capture": capture.measure,
    "call": call.measure,
    "worst": worst.measure,
    "rate": rate.measure,
    "deliver": deliver.measure,
    "visibility": visibility.measure,
    "memory": memory.measure,
    "imports": imports.measure,
    "tracer": first_tracer.measure,
    "asleep": asleep.measure,
    "instructions": instructions.measure,
}
_ON_REQUEST: Final = "instructions"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmarks. Returns 0 also when a budget is missed, unless asked to be strict; 1 if one could not run."""
    options = _parse(arguments)
    names = options.only or [name for name in _BENCHMARKS if name != _ON_REQUEST or options.instructions]
    results: list[Result] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="hush-bench-", dir=options.folder, ignore_cleanup_errors=True) as folder:
        session = Session(Path(folder), QUICK if options.quick else FULL, options.langfuse_python)
        machine = _machine(session.folder)
        for name in names:
            begin = time.monotonic()
            try:
                results += _BENCHMARKS[name](session)
            except Exception as problem:  # the rest is measured all the same; this one is shown, and fails the run
                traceback.print_exc()
                results.append(Result(name, name, note=f"FAILED: {problem}"))
                failed = True
            print(f"{name}: {time.monotonic() - begin:.1f} s", file=sys.stderr, flush=True)
    print(", ".join(f"{key} {value}" for key, value in machine.items()), end="\n\n")
    print(render(results))
    if options.json is not None:
        report = {"machine": machine, "quick": options.quick, "results": [each.to_json() for each in results]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed or (options.strict and any(each.met is False for each in results)) else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure hush against its budgets.")
    parser.add_argument("--quick", action="store_true", help="the short form: fewer turns, fewer records")
    parser.add_argument("--only", action="append", choices=_BENCHMARKS, help="one benchmark; may be given repeatedly")
    parser.add_argument("--instructions", action="store_true", help="also count instructions, with valgrind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, every turn of them, to a file")
    parser.add_argument("--strict", action="store_true", help="exit with status 1 when a budget is missed")
    parser.add_argument("--folder", type=Path, help="where the databases of the run go (default: the temporary folder)")
    parser.add_argument(
        "--langfuse-python", default=sys.executable, metavar="PYTHON", help="an interpreter that has langfuse"
    )
    return parser.parse_args(arguments)


def _machine(folder: Path) -> dict[str, Any]:
    """What the figures belong to."""
    return {
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "file system": filesystem_of(folder) or "unknown",
    }


if __name__ == "__main__":
    sys.exit(main())
