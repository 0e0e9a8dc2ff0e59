"""The design the project began with, built as its documents say it: a queue to a process that commits each record.

`insert_node_trace` calls `write_trace` of a background, which puts a dict into a `multiprocessing.Queue`; a child
process takes them one by one, makes JSON of the structures, and does one INSERT and one commit for each. WAL and
`synchronous = NORMAL`, so that the commit itself costs as little as it can.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from benchmarks.contender import Contender
from benchmarks.workload import insert_nodes

_COLUMNS: Final = (
    "request_id", "workflow_name", "node_name", "parent_name", "context_id", "execution_order", "start_time",
    "end_time", "duration_ms", "input_data", "output_data", "user_id", "session_id", "model", "prompt_tokens",
    "completion_tokens", "total_tokens", "cost_usd", "contain_generation", "metadata",
)  # fmt: skip
_STRUCTURED: Final = ("input_data", "output_data", "metadata")
# What else goes through the queue; no record has these fields.
_ACKNOWLEDGE: Final[dict[str, Any]] = {"acknowledge": True}
_STOP: Final[dict[str, Any]] = {"stop": True}


class SeedBackground:
    """The app's side: the queue, and the process behind it."""

    def __init__(self, db_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: multiprocessing.Queue[dict[str, Any]] = context.Queue()
        self._acknowledged, far_end = context.Pipe(duplex=False)
        self._process = context.Process(target=_write, args=(self._queue, far_end, db_path), daemon=True)
        self._process.start()
        far_end.close()
        self._acknowledged.recv()

    def write_trace(self, **fields: Any) -> None:
        self._queue.put(fields)

    def wait(self) -> None:
        """Wait until all that was put is committed. Blocks in a read: it costs no CPU."""
        self._queue.put(_ACKNOWLEDGE)
        self._acknowledged.recv()

    def close(self) -> None:
        self._queue.put(_STOP)
        self._queue.close()
        self._queue.join_thread()
        self._process.join()
        self._process.close()


def _write(queue: multiprocessing.Queue[dict[str, Any]], acknowledge: Connection, db_path: Path) -> None:
    """The child process: one INSERT and one commit per record."""
    connection = sqlite3.connect(db_path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"CREATE TABLE traces (id INTEGER PRIMARY KEY, {', '.join(_COLUMNS)})")
    connection.execute("CREATE INDEX traces_by_request ON traces (request_id)")
    connection.commit()
    acknowledge.send(True)
    insert = f"INSERT INTO traces ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
    while True:
        fields = queue.get()
        if fields == _STOP:
            break
        if fields == _ACKNOWLEDGE:
            acknowledge.send(True)
            continue
        for name in _STRUCTURED:
            if fields[name] is not None:
                fields[name] = json.dumps(fields[name])
        connection.execute(insert, [fields[name] for name in _COLUMNS])
        connection.commit()
    connection.close()


class Seed(Contender):
    """`TraceStore` of the seed document."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._db_path = folder / "seed.db"
        self._background = SeedBackground(self._db_path)
        self._counted = 0

    def insert_node_trace(
        self,
        request_id: str,
        workflow_name: str,
        node_name: str,
        parent_name: str | None,
        context_id: str | None,
        execution_order: int,
        start_time: str | None,
        end_time: str | None,
        duration_ms: float | None,
        input_data: dict[str, Any] | None,
        output_data: dict[str, Any] | None,
        user_id: str | None = None,
        session_id: str | None = None,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        contain_generation: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._background.write_trace(
            request_id=request_id,
            workflow_name=workflow_name,
            node_name=node_name,
            parent_name=parent_name,
            context_id=context_id,
            execution_order=execution_order,
            start_time=start_time,
            end_time=end_time,
            duration_ms=duration_ms,
            input_data=input_data,
            output_data=output_data,
            user_id=user_id,
            session_id=session_id,
            model=model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            total_tokens=total_tokens,
            cost_usd=cost_usd,
            contain_generation=contain_generation,
            metadata=metadata,
        )

    def run(self, workload: str, calls: int, run: str) -> int:
        insert_nodes(workload, self.insert_node_trace, calls, run)
        return calls

    def hand_over(self) -> None:
        """The queue's thread has to pickle what was put; that it has is known when the other side has it."""
        self._background.wait()

    def arrived(self, records: int) -> int:
        connection = sqlite3.connect(f"file:{self._db_path}?mode=ro", uri=True)
        try:
            (total,) = connection.execute("SELECT count(*) FROM traces").fetchone()
        finally:
            connection.close()
        arrived = int(total) - self._counted
        self._counted = int(total)
        return arrived

    def close(self) -> None:
        self._background.close()


def make(folder: Path) -> Seed:
    return Seed(folder)
