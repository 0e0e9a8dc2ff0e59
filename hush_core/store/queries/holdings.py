"""What the tables hold, and how many records of each journal came into them: one consistent look, for the account."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec

from hush_core.model import COMPLETED, DEAD, FLUSHING, PENDING, SKIPPED
from hush_core.store.queries.reader import reading

_JOURNAL_FIELDS: Final = (
    "journal_id", "pid", "opened_ns", "segment", "offset", "first", "highest", "elsewhere", "stored", "set_aside",
    "dropped", "ended_ns",
)  # fmt: skip


class JournalRow(msgspec.Struct):
    """How far one journal has been stored, as the database says."""

    journal_id: str
    pid: int | None
    opened_ns: int | None
    segment: int
    offset: int
    first: int
    highest: int
    elsewhere: int
    stored: int
    set_aside: int
    dropped: dict[str, int]
    ended_ns: int | None


class Holdings(msgspec.Struct):
    """What a database holds."""

    schema: int
    size_bytes: int  #: of the file and its log
    requests: dict[str, int]  #: by status
    nodes: int
    delivered: int  #: requests and tracers, each pair once
    undelivered: dict[str, dict[str, int]]  #: tracer -> pending, flushing or failed -> count
    skipped: int  #: what a tracer did not want
    journals: list[JournalRow]
    totals: dict[str, int]  #: of journals that are gone: records_stored, records_set_aside, dropped:<reason>, ...


def load_holdings(db_path: Path | str) -> Holdings:
    """Count what a database holds, in one transaction. Raises StoreError as `open_reader`."""
    with reading(db_path) as connection:
        connection.execute("BEGIN")
        journals = [_journal(row) for row in _all(connection, f"SELECT {', '.join(_JOURNAL_FIELDS)} FROM journal")]
        totals = dict(_all(connection, "SELECT name, count FROM total"))
        # Each is answered from an index alone, and not by reading the wide rows of every request.
        ((requests, nodes),) = _all(connection, "SELECT (SELECT count(*) FROM request), (SELECT count(*) FROM node)")
        unfinished = dict(
            _all(connection, f"SELECT status, count(*) FROM request WHERE status <> '{COMPLETED}' GROUP BY status")
        )
        undelivered = _undelivered(connection)
        ((deliveries, skipped),) = _all(
            connection,
            f"SELECT (SELECT count(*) FROM delivery), (SELECT count(*) FROM delivery WHERE status = '{SKIPPED}')",
        )
        ((schema,),) = _all(connection, "PRAGMA user_version")
        connection.execute("COMMIT")
    return Holdings(
        schema=schema,
        size_bytes=sum(_size(f"{db_path}{suffix}") for suffix in ("", "-wal", "-shm")),
        requests={COMPLETED: requests - sum(unfinished.values()), **unfinished},
        nodes=nodes,
        delivered=deliveries - skipped - sum(sum(states.values()) for states in undelivered.values()),
        undelivered=undelivered,
        skipped=skipped,
        journals=journals,
        totals=totals,
    )


def load_segments(db_path: Path | str) -> dict[str, int]:
    """Up to which segment each journal is stored. Raises StoreError as `open_reader`."""
    with reading(db_path) as connection:
        return dict(_all(connection, "SELECT journal_id, segment FROM journal"))


def _undelivered(connection: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """What is not delivered, by tracer and state."""
    counted: dict[str, dict[str, int]] = {}
    names = dict(_all(connection, "SELECT id, tracer_name FROM tracer"))
    for state in (PENDING, FLUSHING, DEAD):  # each has an index of its own
        for tracer, count in _all(
            connection, f"SELECT tracer, count(*) FROM delivery WHERE status = '{state}' GROUP BY tracer"
        ):
            states = counted.setdefault(names[tracer], {})
            states[state] = states.get(state, 0) + count
    return counted


def _all(connection: sqlite3.Connection, sql: str) -> list[Any]:
    return connection.execute(sql).fetchall()


def _journal(row: tuple[Any, ...]) -> JournalRow:
    values = dict(zip(_JOURNAL_FIELDS, row, strict=True))
    values["dropped"] = msgspec.json.decode(values["dropped"])
    return JournalRow(**values)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
