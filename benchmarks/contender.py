"""What can be measured: one way to record a node, in a process of its own, and how its cost is taken.

The clocks are those of the contender's own process, so that nothing of the harness is in a figure. CPU is that of all
its threads: a background thread of an SDK is paid by the app as much as the call itself.
"""

from __future__ import annotations

import gc
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from time import perf_counter_ns
from typing import TypedDict


class CountMismatch(Exception):
    """Not as many records arrived as were recorded: a figure of this run would be worth nothing."""


class Cost(TypedDict):
    """What a run cost the process that recorded."""

    calls: int
    cpu_ns: int


class Stored(TypedDict):
    """How long a run took until the last of its records was stored."""

    records: int
    seconds: float
    cpu_ns: int  #: of the process that recorded, waiting included


class Contender(ABC):
    """One way to record. Lives in a worker process (`benchmarks.worker`); its public methods are called from outside.

    :param folder: for its files; its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run = 0

    @abstractmethod
    def run(self, workload: str, calls: int, run: str) -> int:
        """Record ``calls`` nodes. Returns how many records have to arrive."""

    def hand_over(self) -> None:  # noqa: B027 - most have nothing to finish
        """Finish what is left to do *in this process*: queues that a thread has to empty. Part of the cost."""

    @abstractmethod
    def arrived(self, records: int) -> int:
        """Wait until ``records`` have arrived since the last call, and count those that have. No part of the cost."""

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what was started."""

    # -- what the harness calls ---------------------------------------------------------------------------------------

    def cost(self, workload: str, calls: int) -> Cost:
        """CPU of this process for ``calls`` calls. Raises CountMismatch unless every record arrived."""
        name = self._next_run()
        gc.collect()
        begin = time.process_time_ns()
        records = self.run(workload, calls, name)
        self.hand_over()
        cpu_ns = time.process_time_ns() - begin
        self._verify(records)
        return {"calls": calls, "cpu_ns": cpu_ns}

    def store(self, workload: str, calls: int) -> Stored:
        """Time from the first call until every record has arrived. Raises CountMismatch unless they have."""
        name = self._next_run()
        gc.collect()
        begin, cpu_begin = perf_counter_ns(), time.process_time_ns()
        records = self.run(workload, calls, name)
        self.hand_over()
        arrived = self.arrived(records)
        seconds = (perf_counter_ns() - begin) / 1e9
        cpu_ns = time.process_time_ns() - cpu_begin
        self._compare(records, arrived)
        return {"records": records, "seconds": seconds, "cpu_ns": cpu_ns}

    def latencies(self, workload: str, calls: int, threads: int) -> list[int]:
        """Nanoseconds of each single call, with several threads calling as fast as they can."""
        taken: list[list[int]] = [[] for _ in range(threads)]
        start = threading.Barrier(threads)
        names = [self._next_run() for _ in range(threads)]

        def load(name: str, mine: list[int]) -> None:
            start.wait()
            for _ in range(calls):
                begin = perf_counter_ns()
                self.run(workload, 1, name)
                mine.append(perf_counter_ns() - begin)

        workers = [threading.Thread(target=load, args=pair) for pair in zip(names, taken, strict=True)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.hand_over()
        self._verify(calls * threads)
        return [each for mine in taken for each in mine]

    def calls_only(self, workload: str, calls: int) -> None:
        """The calls and nothing else, for a tool that watches the process from outside."""
        self.run(workload, calls, self._next_run())

    def _next_run(self) -> str:
        self._run += 1
        return f"run-{self._run:04d}"

    def _verify(self, records: int) -> None:
        self._compare(records, self.arrived(records))

    def _compare(self, records: int, arrived: int) -> None:
        if arrived != records:
            raise CountMismatch(f"{type(self).__name__}: {records} records were made, {arrived} arrived")
