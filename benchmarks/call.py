"""What a decorated function's call costs, start record included."""

from __future__ import annotations

from statistics import median
from typing import Final

from benchmarks.result import Budget, Figure, Result, compare
from benchmarks.session import HUSH, LANGFUSE, OTEL, TITLES, Session
from benchmarks.workload import CODE_NODE

_SHARE_OF: Final = {OTEL: 1 / 3, LANGFUSE: 1 / 15}
_WHAT: Final = "@code_node call, two small arguments"


def measure(session: Session) -> list[Result]:
    """CPU of one `@code_node` call beside a span with the same attributes, and beside Langfuse's `@observe`."""
    costs = session.costs((HUSH, OTEL, LANGFUSE), (CODE_NODE,))[CODE_NODE]
    measured = Figure(median(costs[HUSH]), "us")
    results = []
    for name, share in _SHARE_OF.items():
        budget = Budget(share, "at most")
        if name in costs:
            figure, ratio = Figure(median(costs[name]), "us"), compare(costs[HUSH], costs[name], "times")
            details = {"costs_us": {HUSH: costs[HUSH], name: costs[name]}}
            results.append(Result("call", _WHAT, measured, TITLES[name], figure, ratio, budget, details=details))
        else:
            note = session.absent[name]
            results.append(Result("call", _WHAT, beside=TITLES[name], budget=budget, note=note))
    return results
