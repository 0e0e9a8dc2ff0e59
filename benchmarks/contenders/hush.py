"""hush itself, as an app uses it, and what can be seen of it from inside the app's process."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

from benchmarks.contender import Contender, CountMismatch
from benchmarks.process import rss_bytes
from benchmarks.workload import CODE_NODE, SMALL, WORKFLOW, call_nodes, insert_nodes, score
from hush_core import LocalTracer, TraceStore, code_node
from hush_core.background.supervisor import control

_SYNC_S: Final = 120.0
#: How many records between two looks at the memory.
_LOOK_EVERY: Final = 10_000


class Hush(Contender):
    """`TraceStore.insert_node_trace` and `@code_node`; the writer process does the rest."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._db_path = folder / "traces.db"
        self._store = TraceStore(self._db_path)
        self._tracer = LocalTracer()
        self._decorated = code_node(score)
        self._counted = 0
        self.cost(SMALL, 10)  # the writer is there, and has stored something

    def run(self, workload: str, calls: int, run: str) -> int:
        if workload != CODE_NODE:
            insert_nodes(workload, self._store.insert_node_trace, calls, run)
            return calls
        with self._tracer.trace(WORKFLOW, request_id=run):
            call_nodes(self._decorated, calls)
        return calls + 1

    def arrived(self, records: int) -> int:
        if not self._store.sync(_SYNC_S):
            raise CountMismatch(f"hush: not all of {records} records were stored within {_SYNC_S:g} s")
        total = count_nodes(self._db_path)
        arrived = total - self._counted
        self._counted = total
        return arrived

    def writer_pid(self) -> int:
        """The writer's process id."""
        return int(control(self._db_path, {"verb": "status"})["pid"])

    def pace(self, workload: str, calls: int, per_second: float) -> list[int]:
        """Record at a steady rate. Returns when each call returned, monotonic nanoseconds."""
        name = self._next_run()
        returned = []
        begin = time.monotonic_ns()
        for number in range(calls):
            due = begin + int(number * 1e9 / per_second)
            while (wait := due - time.monotonic_ns()) > 0:
                time.sleep(wait / 1e9)
            self.run(workload, 1, name)
            returned.append(time.monotonic_ns())
        self._verify(calls)
        return returned

    def memory(self, workload: str, calls: int) -> list[int]:
        """Resident bytes of this process at the start and from time to time over a run at full speed."""
        seen = [rss_bytes("self")]
        for _ in range(calls // _LOOK_EVERY):
            self.run(workload, _LOOK_EVERY, self._next_run())
            seen.append(rss_bytes("self"))
        self._verify(calls)
        seen.append(rss_bytes("self"))
        return seen


def count_nodes(db_path: Path) -> int:
    """The nodes in a database, counted by a reader."""
    connection = sqlite3.connect(f"file:{db_path}?mode=ro", uri=True)
    try:
        (count,) = connection.execute("SELECT count(*) FROM node").fetchone()
        return int(count)
    finally:
        connection.close()


def make(folder: Path) -> Hush:
    return Hush(folder)
