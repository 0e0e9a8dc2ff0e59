"""How many spans a second reach an OTLP backend."""

from __future__ import annotations

from statistics import median
from typing import Final, NamedTuple

from benchmarks.contender import CountMismatch, Stored
from benchmarks.result import Budget, Figure, Result, compare
from benchmarks.session import DELIVERY, EXPORTER, SINK, TITLES, Session
from benchmarks.worker import NotInstalled, Worker
from benchmarks.workload import LLM, SMALL

_BUDGET: Final = Budget(1.0, "at least")
#: The SDK's ways, and what each is beside hush's delivery.
_DELIVER, _EXPORT = "deliver", "export"
_BESIDE: Final = {_DELIVER: TITLES[EXPORTER], _EXPORT: f"{TITLES[EXPORTER]}, spans ready"}


class _Turn(NamedTuple):
    """One of each."""

    hush: Stored
    sdk: dict[str, Stored]


def measure(session: Session) -> list[Result]:
    """hush's delivery over OTLP/HTTP to a sink on this machine, beside the SDK's processor and exporter."""
    try:
        with session.start(SINK) as sink, session.start(DELIVERY) as hush, session.start(EXPORTER) as sdk:
            return [result for workload in (SMALL, LLM) for result in _of(workload, session, sink, hush, sdk)]
    except NotInstalled as problem:
        session.absent[EXPORTER] = str(problem)
        return [Result("deliver", "spans over OTLP/HTTP", beside=TITLES[EXPORTER], budget=_BUDGET, note=str(problem))]


def _of(workload: str, session: Session, sink: Worker, hush: Worker, sdk: Worker) -> list[Result]:
    sdk.call("take", workload, hush.call("record", workload, session.scale.delivered_spans))
    endpoint = sink.call("endpoint")
    turns = []
    for _ in range(session.scale.store_rounds + 1):
        of_hush = _sent(hush, _DELIVER, workload, sink, endpoint)
        turns.append(_Turn(of_hush, {way: _sent(sdk, way, workload, sink, endpoint) for way in _BESIDE}))
    del turns[0]  # the first one imports
    return [*(_rate(workload, turns, way) for way in _BESIDE), *(_cpu(workload, turns, way) for way in _BESIDE)]


def _sent(worker: Worker, way: str, workload: str, sink: Worker, endpoint: str) -> Stored:
    """One run, counted where it had to arrive."""
    sent: Stored = worker.call(way, workload, endpoint)
    counted = sink.call("counted")
    if counted["spans"] != sent["records"]:
        raise CountMismatch(f"{worker.name}: {sent['records']} spans were sent, {counted['spans']} arrived")
    return sent


def _rate(workload: str, turns: list[_Turn], way: str) -> Result:
    hush = [turn.hush["records"] / turn.hush["seconds"] for turn in turns]
    beside = [turn.sdk[way]["records"] / turn.sdk[way]["seconds"] for turn in turns]
    return Result(
        "deliver",
        f"spans over OTLP/HTTP, {workload}",
        Figure(median(hush), "/s"),
        _BESIDE[way],
        Figure(median(beside), "/s"),
        compare(hush, beside, "times"),
        _BUDGET if way == _DELIVER else None,
        details={"rates_per_s": {DELIVERY: hush, EXPORTER: beside}},
    )


def _cpu(workload: str, turns: list[_Turn], way: str) -> Result:
    """The same as CPU per span: other processes disturb it less than they disturb a rate."""
    hush = [turn.hush["cpu_ns"] / turn.hush["records"] / 1000 for turn in turns]
    beside = [turn.sdk[way]["cpu_ns"] / turn.sdk[way]["records"] / 1000 for turn in turns]
    return Result(
        "deliver",
        f"CPU per span over OTLP/HTTP, {workload}",
        Figure(median(hush), "us"),
        _BESIDE[way],
        Figure(median(beside), "us"),
        compare(hush, beside, "times"),
    )
