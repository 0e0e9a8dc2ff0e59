"""SQLite alone: the rows that hush stored, taken out of its database and inserted into an empty one of the same schema.

The same connection settings, tables and indexes, rows ready in memory, `executemany` in transactions of 1,000 nodes:
what is left of the end-to-end rate when capture, journal, decoding and accounting cost nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any, Final

from benchmarks.contender import CountMismatch, Stored
from hush_core.store.database import open_database

_TABLES: Final = ("request", "node", "node_payload", "request_journal")
_NODES_PER_TRANSACTION: Final = 1000

Rows = dict[str, list[tuple[Any, ...]]]


class Raw:
    """Inserts the rows of another database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def insert_rows_of(self, source: str) -> Stored:
        """Time to insert all rows of a database that hush has filled. Raises CountMismatch unless all are there."""
        rows, inserts = _read(source)
        self._made += 1
        connection = open_database(self._folder / f"raw-{self._made}.db")
        try:
            batches = list(_batches(rows))
            begin, cpu_begin = perf_counter_ns(), process_time_ns()
            for batch in batches:
                connection.execute("BEGIN IMMEDIATE")
                for table in _TABLES:
                    connection.executemany(inserts[table], batch[table])
                connection.execute("COMMIT")
            seconds, cpu_ns = (perf_counter_ns() - begin) / 1e9, process_time_ns() - cpu_begin
            (stored,) = connection.execute("SELECT count(*) FROM node").fetchone()
        finally:
            connection.close()
        if stored != len(rows["node"]):
            raise CountMismatch(f"raw: {len(rows['node'])} nodes were inserted, {stored} are there")
        return {"records": stored, "seconds": seconds, "cpu_ns": cpu_ns}

    def close(self) -> None:
        """Nothing to end."""


def _read(source: str) -> tuple[Rows, dict[str, str]]:
    connection = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    try:
        rows, inserts = {}, {}
        for table in _TABLES:
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
            rows[table] = cursor.fetchall()
            names = [column[0] for column in cursor.description]
            inserts[table] = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        return rows, inserts
    finally:
        connection.close()


def _batches(rows: Rows) -> Iterator[Rows]:
    """Nodes by the thousand, each with its payload; a request, and its journal, with the first of its nodes."""
    payloads = {row[0]: row for row in rows["node_payload"]}
    requests = {row[0]: row for row in rows["request"]}
    journals = {row[0]: row for row in rows["request_journal"]}
    for start in range(0, len(rows["node"]), _NODES_PER_TRANSACTION):
        nodes = rows["node"][start : start + _NODES_PER_TRANSACTION]
        new = [requests.pop(request) for request in dict.fromkeys(row[1] for row in nodes) if request in requests]
        yield {
            "request": new,
            "node": nodes,
            "node_payload": [payloads[row[0]] for row in nodes if row[0] in payloads],
            "request_journal": [journals[row[0]] for row in new if row[0] in journals],
        }


def make(folder: Path) -> Raw:
    return Raw(folder)
