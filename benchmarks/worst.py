"""How long the slowest calls take when four threads record at once."""

from __future__ import annotations

from statistics import median
from typing import Final

from benchmarks.result import Budget, Figure, Ratio, Result, percentile
from benchmarks.session import FLOOR, HUSH, OTEL, TITLES, Session
from benchmarks.worker import Worker
from benchmarks.workload import SMALL

_THREADS: Final = 4
_WHAT: Final = "slowest call in 1,000 (p99.9), 4 threads"
_SHARES: Final = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}

Turn = dict[str, float]  # microseconds by percentile


def measure(session: Session) -> list[Result]:
    """hush's p99.9 beside OpenTelemetry's p50, both by the clock on the wall, under the same load; and the floor's.

    The p99.9 is that of the quietest turn: a neighbour that takes the processor for a moment only ever adds to it, and
    adds as much to the floor, which has nothing in it that could wait. What a contender does to itself is in each turn.
    """
    turns: dict[str, list[Turn]] = {}
    budget = Budget(1.0, "at most")
    with session.fleet((FLOOR, HUSH, OTEL)) as workers:
        for _ in range(session.scale.latency_rounds):
            for name, worker in workers.items():
                turns.setdefault(name, []).append(_turn(session, worker))
    worst = {name: min(turn["p99.9"] for turn in each) for name, each in turns.items()}
    measured, details = Figure(worst[HUSH], "us"), {"turns_us": turns}
    floor = Result(
        "worst",
        _WHAT,
        measured,
        f"{TITLES[FLOOR]}, p99.9",
        Figure(worst[FLOOR], "us"),
        _times(worst[HUSH], worst[FLOOR]),
    )
    if OTEL not in turns:
        return [floor, Result("worst", _WHAT, beside=TITLES[OTEL], budget=budget, note=session.absent[OTEL])]
    usual = median(turn["p50"] for turn in turns[OTEL])
    beside = f"{TITLES[OTEL]}, p50"
    return [
        Result(
            "worst", _WHAT, measured, beside, Figure(usual, "us"), _times(worst[HUSH], usual), budget, details=details
        ),
        floor,
        Result(
            "worst",
            _WHAT,
            measured,
            f"{TITLES[OTEL]}, p99.9",
            Figure(worst[OTEL], "us"),
            _times(worst[HUSH], worst[OTEL]),
        ),
    ]


def _times(measured: float, beside: float) -> Ratio:
    return Ratio(measured / beside, measured / beside, measured / beside, "times")


def _turn(session: Session, worker: Worker) -> Turn:
    taken: list[int] = worker.call("latencies", SMALL, session.scale.latency_calls, _THREADS)
    return {name: percentile(taken, share) / 1000 for name, share in _SHARES.items()}
