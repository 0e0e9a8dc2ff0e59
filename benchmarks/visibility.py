"""How long after a call has returned its record can be read in SQLite."""

from __future__ import annotations

from benchmarks.result import Budget, Figure, Result, percentile
from benchmarks.session import HUSH, Session
from benchmarks.workload import SMALL

_PER_SECOND = 1000.0
_BUDGETS_MS = (("p50", 0.5, 10.0), ("p99", 0.99, 50.0))


def measure(session: Session) -> list[Result]:
    """1,000 records a second; a reader polls as `hush tail` does. Its own delay is part of the figures."""
    calls = session.scale.visible_records
    with session.start(HUSH) as hush, session.start("reader") as reader:
        reader.call("open", str(hush.folder / "traces.db"))
        reader.send("watch", calls)
        returned = hush.call("pace", SMALL, calls, _PER_SECOND)
        seen = reader.receive()
    if len(seen) != calls:
        raise RuntimeError(f"visibility: the reader saw {len(seen)} of {calls} records")
    delays = [at - back for at, back in zip(seen, returned, strict=True)]
    return [
        Result(
            "visibility",
            f"visible in SQLite after the call, 1,000/s, {name}",
            Figure(percentile(delays, share) / 1e6, "ms"),
            budget=Budget(limit, "at most"),
            details={"max_ms": max(delays) / 1e6},
        )
        for name, share, limit in _BUDGETS_MS
    ]
