"""One run of the benchmarks: how much to measure, where, and which contenders there are."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.process import end_process
from benchmarks.worker import NotInstalled, Worker
from hush_core.background.doorbell import ask
from hush_core.background.supervisor import journal_directory

HUSH, FLOOR, OTEL, LANGFUSE, SEED, RAW = "hush", "floor", "otel", "langfuse", "seed", "raw"
DELIVERY, EXPORTER, SINK = "hush_delivery", "otlp_exporter", "sink"
MODULES = {
    HUSH: "benchmarks.contenders.hush",
    FLOOR: "benchmarks.contenders.floor",
    OTEL: "benchmarks.contenders.otel",
    LANGFUSE: "benchmarks.contenders.langfuse_sdk",
    SEED: "benchmarks.contenders.seed",
    RAW: "benchmarks.contenders.raw",
    "reader": "benchmarks.contenders.reader",
    DELIVERY: "benchmarks.contenders.hush_delivery",
    EXPORTER: "benchmarks.contenders.otlp_exporter",
    SINK: "benchmarks.contenders.sink",
}
TITLES = {
    HUSH: "hush",
    FLOOR: "floor",
    OTEL: "OpenTelemetry SDK",
    LANGFUSE: "Langfuse SDK",
    SEED: "seed's plain design",
    RAW: "raw batched inserts",
    DELIVERY: "hush",
    EXPORTER: "SDK's processor and exporter",
}


@dataclass(frozen=True)
class Scale:
    """How much is measured. The figures of the short form are as true, only less steady."""

    fleets: int  #: how often the contenders are started anew: each start has its own memory layout
    rounds: int  #: turns per fleet
    calls: dict[str, int]  #: per turn, by contender: about equal times
    latency_calls: int  #: per thread
    latency_rounds: int
    store_records: int
    seed_records: int
    store_rounds: int
    visible_records: int
    memory_records: int
    imports: int
    asleep_s: float
    delivered_spans: int


FULL = Scale(
    fleets=3,
    rounds=11,
    calls={FLOOR: 5000, HUSH: 5000, OTEL: 1000, SEED: 1000, LANGFUSE: 300},
    latency_calls=1500,
    latency_rounds=25,
    store_records=20_000,
    seed_records=4000,
    store_rounds=5,
    visible_records=5000,
    memory_records=1_000_000,
    imports=15,
    asleep_s=10.0,
    delivered_spans=10_000,
)
QUICK = Scale(
    fleets=1,
    rounds=7,
    calls={FLOOR: 3000, HUSH: 3000, OTEL: 600, SEED: 600, LANGFUSE: 200},
    latency_calls=1500,
    latency_rounds=10,
    store_records=8000,
    seed_records=1500,
    store_rounds=2,
    visible_records=1500,
    memory_records=100_000,
    imports=7,
    asleep_s=4.0,
    delivered_spans=3000,
)


def end_writer(db_path: Path) -> None:
    """End the writer of a database, if there is one: it would outlive its app by seconds, and the folder is to go."""
    try:
        pid = ask(journal_directory(db_path), {"verb": "status"}, 10.0)["pid"]
    except OSError:
        return  # nobody listens
    end_process(pid)


@dataclass
class Session:
    """Starts contenders, each in a folder of its own under ``folder``.

    :param langfuse_python: an interpreter that has langfuse, if it is not this one.
    """

    folder: Path
    scale: Scale
    langfuse_python: str = sys.executable
    absent: dict[str, str] = field(default_factory=dict)  #: contender -> why it could not be started
    _started: int = 0

    @contextmanager
    def start(self, name: str) -> Iterator[Worker]:
        """A contender, ended afterwards, hush's writer process included. Raises NotInstalled."""
        python = self.langfuse_python if name == LANGFUSE else sys.executable
        with self.folder_for(name) as folder, Worker(MODULES[name], folder, python=python) as worker:
            yield worker

    @contextmanager
    def folder_for(self, name: str) -> Iterator[Path]:
        """A contender's own folder. A writer that was started for the database in it is ended, the folder removed."""
        self._started += 1
        folder = self.folder / f"{self._started:03d}-{name}"
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            end_writer(folder / "traces.db")
            shutil.rmtree(folder)

    @contextmanager
    def fleet(self, names: tuple[str, ...]) -> Iterator[dict[str, Worker]]:
        """Those of these contenders that can be started. Why others cannot is in ``absent``."""
        with ExitStack() as stack:
            workers = {}
            for name in names:
                if name in self.absent:
                    continue
                try:
                    workers[name] = stack.enter_context(self.start(name))
                except NotInstalled as problem:
                    self.absent[name] = str(problem)
            yield workers

    def costs(self, names: tuple[str, ...], workloads: tuple[str, ...]) -> dict[str, dict[str, list[float]]]:
        """Microseconds of CPU per call, by workload and contender, one figure per turn, all contenders in each turn."""
        found: dict[str, dict[str, list[float]]] = {workload: {} for workload in workloads}
        for _ in range(self.scale.fleets):
            with self.fleet(names) as workers:
                for workload in workloads:
                    for worker in workers.values():
                        worker.call("cost", workload, 200)  # caches warm, threads started
                    for _ in range(self.scale.rounds):
                        for name, worker in workers.items():
                            cost: Any = worker.call("cost", workload, self.scale.calls[name])
                            per_call = cost["cpu_ns"] / cost["calls"] / 1000
                            found[workload].setdefault(name, []).append(per_call)
        return found
