"""Whether recording makes the app's process grow."""

from __future__ import annotations

from benchmarks.process import CannotSay, rss_bytes
from benchmarks.result import Budget, Figure, Result
from benchmarks.session import HUSH, Session
from benchmarks.workload import SMALL


def measure(session: Session) -> list[Result]:
    """The most resident memory that a run at full speed had at any time, over what it had before."""
    calls = session.scale.memory_records
    what = f"app memory over {calls:,} records, growth"
    budget = Budget(20.0, "at most")
    try:
        rss_bytes("self")
    except CannotSay as problem:
        return [Result("memory", what, budget=budget, note=str(problem))]
    with session.start(HUSH) as hush:
        seen = hush.call("memory", SMALL, calls)
    growth = Figure((max(seen) - seen[0]) / 1e6, "MB")
    return [Result("memory", what, growth, budget=budget, details={"rss_bytes": seen})]
