"""Instructions per call, counted by valgrind: the one figure here that does not depend on the machine's neighbours.

Counted over N calls and over 2N, and subtracted, so that starting up is not in it. An instruction is not a unit of
time: a checksum runs many per cycle, a cache miss few. It says whether a change made the path longer.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from typing import Final

from benchmarks.result import Figure, Ratio, Result
from benchmarks.session import FLOOR, HUSH, MODULES, TITLES, Session
from benchmarks.worker import ROOT, environment
from benchmarks.workload import CODE_NODE, LLM, SMALL

_CALLS: Final = 2000
_COLLECTED: Final = re.compile(r"Collected\s*:\s*(\d+)")


def measure(session: Session) -> list[Result]:
    """Instructions in the app's process for one call, beside the floor's."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return [Result("instructions", "instructions per call", note="valgrind is not installed")]
    results = []
    for workload in (SMALL, LLM):
        hush, floor = (_per_call(session, valgrind, name, workload) for name in (HUSH, FLOOR))
        times = hush / floor
        ratio = Ratio(times, times, times, "times")
        what = f"insert_node_trace, {workload}, instructions"
        figures = Figure(hush, "instr"), TITLES[FLOOR], Figure(floor, "instr")
        results.append(Result("instructions", what, *figures, ratio))
    call = _per_call(session, valgrind, HUSH, CODE_NODE)
    results.append(Result("instructions", "@code_node call, instructions", Figure(call, "instr")))
    return results


def _per_call(session: Session, valgrind: str, name: str, workload: str) -> float:
    once, twice = (_count(session, valgrind, name, workload, calls) for calls in (_CALLS, 2 * _CALLS))
    return (twice - once) / _CALLS


def _count(session: Session, valgrind: str, name: str, workload: str, calls: int) -> int:
    """Instructions of a process that makes so many calls and ends."""
    with session.folder_for(name) as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder / 'callgrind.out'}", sys.executable]
        call = ["-m", "benchmarks.worker", MODULES[name], str(folder), "calls_only", json.dumps([workload, calls])]
        done = subprocess.run(
            [*command, *call], cwd=ROOT, env=environment(folder), stderr=subprocess.PIPE, text=True, check=False
        )
        counted = _COLLECTED.search(done.stderr)
        if done.returncode or counted is None:
            raise RuntimeError(f"valgrind failed: {done.stderr[-2000:]}")
        return int(counted[1])
