"""What the writer process costs while nobody records."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.process import CannotSay, cpu_ns, pss_bytes, rss_bytes
from benchmarks.result import Budget, Figure, Result
from benchmarks.session import HUSH, Session
from benchmarks.workload import LLM

_CPU: Final = "writer asleep, app alive, CPU"
_MEMORY: Final = "writer asleep, memory"
_CPU_BUDGET: Final = Budget(0.3, "at most")
_MEMORY_BUDGET: Final = Budget(40.0, "at most")
#: Until the writer has gone to sleep after the last record.
_SETTLE_S: Final = 1.5


def measure(session: Session) -> list[Result]:
    """CPU over some seconds, and resident memory, after a burst of large records, with the app alive and idle."""
    with session.start(HUSH) as hush:
        hush.call("store", LLM, session.scale.store_records)
        writer = hush.call("writer_pid")
        time.sleep(_SETTLE_S)
        try:
            begin, cpu_begin = time.monotonic_ns(), cpu_ns(writer)
            time.sleep(session.scale.asleep_s)
            share = (cpu_ns(writer) - cpu_begin) / (time.monotonic_ns() - begin)
            rss, pss = rss_bytes(writer) / 1e6, pss_bytes(writer) / 1e6
        except CannotSay as problem:
            note = str(problem)
            return [
                Result("asleep", _CPU, budget=_CPU_BUDGET, note=note),
                Result("asleep", _MEMORY, budget=_MEMORY_BUDGET, note=note),
            ]
    return [
        Result("asleep", _CPU, Figure(share * 100, "%"), budget=_CPU_BUDGET),
        Result("asleep", f"{_MEMORY} (PSS)", Figure(pss, "MB"), budget=_MEMORY_BUDGET, details={"rss_mb": rss}),
        Result("asleep", f"{_MEMORY} (RSS)", Figure(rss, "MB"), budget=_MEMORY_BUDGET),
    ]
