"""What recording one node costs the process that records it."""

from __future__ import annotations

from statistics import median
from typing import Final

from benchmarks.result import Budget, Figure, Result, compare
from benchmarks.session import FLOOR, HUSH, LANGFUSE, OTEL, SEED, TITLES, Session
from benchmarks.workload import LLM, SMALL

_CHEAPER_THAN: Final = {OTEL: 10.0, SEED: 6.0, LANGFUSE: 50.0}
_TIMES_THE_FLOOR: Final = 1.4


def measure(session: Session) -> list[Result]:
    """CPU of one `insert_node_trace`, all threads of the process included, beside the floor and the others."""
    costs = session.costs((FLOOR, HUSH, OTEL, SEED, LANGFUSE), (SMALL, LLM))
    return [result for workload, by_name in costs.items() for result in _compare(session, workload, by_name)]


def _compare(session: Session, workload: str, costs: dict[str, list[float]]) -> list[Result]:
    what = f"insert_node_trace, {workload}"
    hush = costs[HUSH]
    measured = Figure(median(hush), "us")
    results = [
        Result(
            "capture",
            what,
            measured,
            TITLES[FLOOR],
            Figure(median(costs[FLOOR]), "us"),
            compare(hush, costs[FLOOR], "times"),
            Budget(_TIMES_THE_FLOOR, "at most"),
            details={"costs_us": costs},
        )
    ]
    for name, limit in _CHEAPER_THAN.items():
        budget = Budget(limit, "at least")
        if name in costs:
            figure, ratio = Figure(median(costs[name]), "us"), compare(hush, costs[name], "cheaper")
            results.append(Result("capture", what, measured, TITLES[name], figure, ratio, budget))
        else:
            note = session.absent[name]
            results.append(Result("capture", what, beside=TITLES[name], budget=budget, note=note))
    return results
