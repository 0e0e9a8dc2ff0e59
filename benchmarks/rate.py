"""How many records a second reach SQLite, from the call to the row."""

from __future__ import annotations

from statistics import median
from typing import Final

from benchmarks.contender import Stored
from benchmarks.process import cpu_ns
from benchmarks.result import Budget, Figure, Result, compare
from benchmarks.session import HUSH, RAW, SEED, TITLES, Session
from benchmarks.worker import Worker
from benchmarks.workload import LLM, SMALL

_BUDGETS: Final = {RAW: Budget(0.7, "at least"), SEED: Budget(3.0, "at least")}

Turn = dict[str, Stored]


def measure(session: Session) -> list[Result]:
    """One process records at full speed; the clock stops when all its rows are there, and have been counted."""
    results = []
    for workload in (SMALL, LLM):
        with session.start(RAW) as raw, session.start(SEED) as seed:
            turns = [_turn(session, raw, seed, workload) for _ in range(session.scale.store_rounds)]
        results += [_rates(workload, turns, name) for name in _BUDGETS]
        results += _cpu(workload, turns)
    return results


def _turn(session: Session, raw: Worker, seed: Worker, workload: str) -> Turn:
    """One of each. hush begins with an empty database each time, as the raw inserts do."""
    with session.start(HUSH) as hush:
        writer = hush.call("writer_pid")
        before = cpu_ns(writer)
        stored: Stored = hush.call("store", workload, session.scale.store_records)
        stored["cpu_ns"] += cpu_ns(writer) - before
        again: Stored = raw.call("insert_rows_of", str(hush.folder / "traces.db"))
    return {HUSH: stored, RAW: again, SEED: seed.call("store", workload, session.scale.seed_records)}


def _rates(workload: str, turns: list[Turn], name: str) -> Result:
    rates = {each: [turn[each]["records"] / turn[each]["seconds"] for turn in turns] for each in (HUSH, name)}
    return Result(
        "rate",
        f"records into SQLite, {workload}",
        Figure(median(rates[HUSH]), "/s"),
        TITLES[name],
        Figure(median(rates[name]), "/s"),
        compare(rates[HUSH], rates[name], "times"),
        _BUDGETS[name],
        details={"rates_per_s": rates},
    )


def _cpu(workload: str, turns: list[Turn]) -> list[Result]:
    """The same as CPU per record: other processes disturb it less than they disturb a rate."""
    spent = {name: [turn[name]["cpu_ns"] / turn[name]["records"] / 1000 for turn in turns] for name in (HUSH, RAW)}
    ratio = compare(spent[HUSH], spent[RAW], "times")
    figures = Figure(median(spent[HUSH]), "us"), TITLES[RAW], Figure(median(spent[RAW]), "us")
    return [Result("rate", f"CPU per record into SQLite, {workload}, app and writer", *figures, ratio)]
