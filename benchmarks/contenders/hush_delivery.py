"""hush's delivery with the plugin hush-otel: from the rows of a database to the backend's answer.

What a delivery process does for each request, with its own code: read the rows, build what the tracer is given, encode,
send, settle. Only the writer on the other side of the socket is not there.
"""

from __future__ import annotations

import gc
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any

from benchmarks.contender import CountMismatch, Stored
from benchmarks.workload import insert_nodes
from hush_core import TraceStore
from hush_core.delivery.attempt import Attempts
from hush_core.delivery.flush_data import Tracer
from hush_core.delivery.protocol import Job, Outcome
from hush_core.delivery.redaction import Redaction
from hush_core.store.queries.reader import open_reader
from hush_otel.tracer import OTelTracer

_SYNC_S = 120.0


class _Settled:
    """In the place of the writer, the log and the plugins: keeps what became of each delivery."""

    is_in_child = False
    redaction = Redaction()

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.notes: list[str] = []
        self.note = self.notes.append

    def begin(self, ids: list[int] | None = None) -> None: ...
    def push(self) -> None: ...
    def before_flush(self, tracer_name: str, flush_data: Any, /) -> Any:
        return flush_data

    def after_flush(self, tracer_name: str, request_id: str, outcome: str, /) -> None: ...

    def settle(self, outcomes: list[Outcome]) -> None:
        self.outcomes += outcomes


class HushDelivery:
    """Delivers what it has recorded, as often as it is asked to."""

    def __init__(self, folder: Path) -> None:
        self._db_path = folder / "traces.db"
        self._store = TraceStore(self._db_path)

    def record(self, workload: str, nodes: int) -> str:
        """Put requests into the database. Gives its path."""
        insert_nodes(workload, self._store.insert_node_trace, nodes, workload)
        if not self._store.sync(_SYNC_S):
            raise CountMismatch(f"hush: not all of {nodes} nodes were stored within {_SYNC_S:g} s")
        return str(self._db_path)

    def deliver(self, workload: str, endpoint: str) -> Stored:
        """Time to deliver all requests of a workload. Raises CountMismatch unless each was taken."""
        with open_reader(self._db_path) as reader:
            rows = reader.execute(
                "SELECT id, node_count FROM request WHERE request_id LIKE ? || '-%'", (workload,)
            ).fetchall()
        settled: Any = _Settled()
        attempts = Attempts(
            Tracer("bench", "OTelTracer", {"endpoint": endpoint, "timeout_s": 60.0}),
            OTelTracer,
            settled,
            db_path=self._db_path,
            channel=settled,
            output=settled,
            is_full=lambda: False,
        )
        jobs = [Job(row, row, 1) for row, _ in rows]
        gc.collect()
        begin, cpu_begin = perf_counter_ns(), process_time_ns()
        attempts.work(jobs)
        seconds, cpu_ns = (perf_counter_ns() - begin) / 1e9, process_time_ns() - cpu_begin
        delivered = sum(outcome.kind == "delivered" for outcome in settled.outcomes)
        if delivered != len(rows):
            raise CountMismatch(f"hush: {delivered} of {len(rows)} requests were delivered: {settled.notes[:1]}")
        return {"records": sum(nodes for _, nodes in rows), "seconds": seconds, "cpu_ns": cpu_ns}

    def close(self) -> None:
        """Nothing to end."""


def make(folder: Path) -> HushDelivery:
    return HushDelivery(folder)
