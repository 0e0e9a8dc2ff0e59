"""A database with the rows that a test of reading wants, put there without a writer; `hush` records into a real one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hush_core.store.database import open_database

#: 2025-01-31T12:00:00Z
NOON_NS = 1_738_324_800_000_000_000
MS = 1_000_000

REQUEST_COLUMNS = (
    "id", "request_id", "workflow_name", "user_id", "session_id", "status", "start_ns", "end_ns", "error", "tags",
    "node_count", "error_count", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd", "recorded_ns",
)  # fmt: skip


class TraceDatabase:
    """Rows of one database file. Times count from noon of a day, in milliseconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = open_database(path)
        self._span = 0

    def close(self) -> None:
        self.connection.close()

    def request(
        self,
        request_id: str,
        *,
        workflow_name: str | None = "rag",
        status: str = "completed",
        tags: Iterable[str] = (),
        at_ms: float = 0.0,
        duration_ms: float | None = 100.0,
        **columns: Any,
    ) -> int:
        """Put one request; gives its row."""
        start_ns = NOON_NS + int(at_ms * MS)
        row: dict[str, Any] = {
            "request_id": request_id,
            "workflow_name": workflow_name,
            "status": status,
            "tags": json.dumps(list(tags)),
            "start_ns": start_ns,
            "end_ns": None if duration_ms is None else start_ns + int(duration_ms * MS),
            "recorded_ns": start_ns,
            **columns,
        }
        number = self._insert("request", row)
        self.connection.executemany(
            "INSERT OR IGNORE INTO request_tag (tag, request) VALUES (?, ?)", [(tag, number) for tag in tags]
        )
        return number

    def node(
        self,
        request: int,
        node_name: str | None,
        *,
        status: str = "ok",
        at_ms: float | None = 0.0,
        duration_ms: float | None = 1.0,
        payload: dict[str, Any] | None = None,
        **columns: Any,
    ) -> int:
        """Put one node of a request, given by its row; gives the node's row."""
        start_ns = None if at_ms is None else NOON_NS + int(at_ms * MS)
        ended = start_ns is not None and duration_ms is not None and status != "running"
        row: dict[str, Any] = {
            "request": request,
            "node_name": node_name,
            "status": status,
            "start_ns": start_ns,
            "end_ns": (start_ns or 0) + int((duration_ms or 0.0) * MS) if ended else None,
            "duration_ms": None if status == "running" else duration_ms,
            **columns,
        }
        number = self._insert("node", row)
        if payload is not None:
            values = {name: json.dumps(value) for name, value in payload.items()}
            self._insert("node_payload", {"node": number, **values})
        self.connection.execute("UPDATE request SET node_count = node_count + 1 WHERE id = ?", (request,))
        return number

    def delivery(
        self, request: int, tracer_name: str = "prod", *, tracer_type: str = "MyTracer", **columns: Any
    ) -> int:
        """Put one delivery of a request, given by its row; gives the delivery's row.

        To the tracer of that name, made if there is none, or to the row `tracer`.
        """
        if "tracer" not in columns:
            sql = "SELECT id FROM tracer WHERE tracer_name = ?"
            row = self.connection.execute(sql, (tracer_name,)).fetchone()
            columns["tracer"] = row[0] if row else self.tracer(tracer_name, tracer_type=tracer_type)
        return self._insert("delivery", {"request": request, "due_ns": NOON_NS, **columns})

    def tracer(self, tracer_name: str, *, tracer_type: str = "MyTracer", **columns: Any) -> int:
        """Put one tracer; gives its row."""
        return self._insert("tracer", {"tracer_name": tracer_name, "tracer_type": tracer_type, **columns})

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        marks = ", ".join("?" * len(row))
        cursor = self.connection.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())
        )
        return cursor.lastrowid or 0


def fill(path: Path, requests: int, nodes_each: int = 3) -> None:
    """Make a database of many requests as a service leaves it: a few workflows, users, tags, errors.

    Row by row: a process that has held them all stays large, and makes each fork of a later test slow.
    """
    with_rows = sqlite3.connect(path)
    open_database(path).close()
    with_rows.execute("PRAGMA synchronous = OFF")
    numbers = range(1, requests + 1)
    node_columns = (
        "id", "request", "node_name", "parent_name", "execution_order", "status", "start_ns", "end_ns", "duration_ms",
        "model", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd",
    )  # fmt: skip
    with with_rows:
        _insert_many(with_rows, "request", REQUEST_COLUMNS, (_request(n, requests, nodes_each) for n in numbers))
        tags = ((tag, number) for number in numbers for tag in _tags(number, requests))
        _insert_many(with_rows, "request_tag", ("tag", "request"), tags)
        nodes = (_node(number, at, nodes_each) for number in numbers for at in range(nodes_each))
        _insert_many(with_rows, "node", node_columns, nodes)
        _insert_many(with_rows, "tracer", ("tracer_name", "tracer_type", "sent"), [("LocalTracer",) * 2 + (requests,)])
        sent = ((number, 1, "flushed", 0) for number in numbers)
        _insert_many(with_rows, "delivery", ("request", "tracer", "status", "due_ns"), sent)
        _fill_undelivered(with_rows, requests)
        said = (json.dumps({"question": "why " * 20}), json.dumps({"answer": "because " * 20}))
        payloads = ((node, *said) for node in range(1, requests * nodes_each + 1))
        _insert_many(with_rows, "node_payload", ("node", "input_data", "output_data"), payloads)
    with_rows.close()


def _insert_many(
    connection: sqlite3.Connection, table: str, columns: Iterable[str], rows: Iterable[tuple[Any, ...]]
) -> None:
    named = tuple(columns)
    marks = ", ".join("?" * len(named))
    connection.executemany(f"INSERT INTO {table} ({', '.join(named)}) VALUES ({marks})", rows)


def _start_ns(number: int) -> int:
    return NOON_NS + number * 1000 * MS


def _tags(number: int, requests: int) -> list[str]:
    return ["prod", *(["vip"] if number % 100 == 0 else []), *(["once"] if number == requests // 2 else [])]


def _request(number: int, requests: int, nodes_each: int) -> tuple[Any, ...]:
    status = "failed" if number % 50 == 0 else "interrupted" if number % 997 == 0 else "completed"
    start_ns = _start_ns(number)
    return (
        number, f"{number * 2654435761 % 2**32:08x}-{number:08d}", f"flow-{number % 7}", f"user-{number % 1000}",
        f"session-{number % 5000}", status, start_ns, start_ns + 250 * MS, None, json.dumps(_tags(number, requests)),
        nodes_each, int(status == "failed"), 100, 20, 120, 0.001, start_ns,
    )  # fmt: skip


def _node(request: int, at: int, nodes_each: int) -> tuple[Any, ...]:
    node = (request - 1) * nodes_each + at + 1
    name, parent = (f"step-{at}", "flow") if at else ("flow", None)
    took_ms = 10.0 + node * 7919 % 1000
    start_ns = _start_ns(request)
    calls = ("gpt-4o", 100, 20, 120, 0.001) if at == nodes_each - 1 else (None,) * 5
    end_ns = start_ns + int((at + took_ms) * MS)
    return (node, request, name, parent, at, "ok", start_ns + at * MS, end_ns, took_ms, *calls)


def _fill_undelivered(connection: sqlite3.Connection, requests: int) -> None:
    """A tracer whose backend has been down for a while, after it took most and refused some."""
    connection.execute("INSERT INTO tracer (id, tracer_name, tracer_type, sent) VALUES (2, 'prod', 'MyTracer', 0)")
    states = ["flushed"] * 60 + ["skipped"] * 15 + ["failed"] * 5 + ["pending"] * 20
    deliveries = (
        (number, 2, states[number * 100 // (requests + 1)], NOON_NS + number, NOON_NS + number * 7919 % 10**9)
        for number in range(1, requests + 1)
    )
    _insert_many(connection, "delivery", ("request", "tracer", "status", "due_ns", "next_attempt_ns"), deliveries)
