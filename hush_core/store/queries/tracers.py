"""The tracers that requests have been due to: what still waits, what came of the rest, and how their backends did."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import msgspec

from hush_core.model import DEAD, FLUSHING, PENDING
from hush_core.store.queries.reader import reading

_FIELDS: Final = (
    "id", "tracer_name", "tracer_type", "target", "tracer_config", "failures", "retry_ns", "paused", "last_error",
    "last_error_ns", "last_sent_ns", "sent", "failed", "skipped",
)  # fmt: skip
# Each is answered from an index of such deliveries alone, however many are delivered.
_WAITING: Final = f"""
SELECT tracer, count(*), min(next_attempt_ns), min(id) FROM delivery WHERE status = '{PENDING}' GROUP BY tracer"""
_UNDER_WAY: Final = f"SELECT tracer, count(*), min(due_ns) FROM delivery WHERE status = '{FLUSHING}' GROUP BY tracer"
_DEAD: Final = f"SELECT tracer, count(*) FROM delivery WHERE status = '{DEAD}' GROUP BY tracer"
_OLDEST: Final = f"SELECT min(due_ns) FROM delivery WHERE tracer = ? AND status = '{PENDING}'"
#: Beyond so many, when each became due is not read.
_READ_EACH: Final = 10_000


class TracerState(msgspec.Struct, kw_only=True):
    """One tracer, that is a name, a class and a configuration, and its deliveries."""

    id: int
    tracer_name: str
    tracer_type: str  #: the name of its class
    target: str  #: "module:Class", or empty
    tracer_config: str  #: JSON text; may hold what an app put there, so it is shown to nobody
    failures: int  #: attempts that failed in a row
    retry_ns: int  #: no attempt before
    paused: str | None  #: what somebody has to put right
    last_error: str | None
    last_error_ns: int | None
    last_sent_ns: int | None
    sent: int  #: ever, also of requests that are pruned since; so are the next two
    failed: int
    skipped: int
    pending: int = 0
    flushing: int = 0
    dead: int = 0  #: dead letters that are there now
    next_attempt_ns: int | None = None  #: the earliest of what is pending
    oldest_due_ns: int | None = None  #: since when the longest due waits; of very many, the first that was noted

    @property
    def due(self) -> int:
        """What is still to be delivered."""
        return self.pending + self.flushing


def load_tracers(db_path: Path | str) -> list[TracerState]:
    """Every tracer of a database, in the order in which they were first seen. Raises StoreError as `open_reader`."""
    with reading(db_path) as connection:
        return read_tracers(connection)


def read_tracers(connection: sqlite3.Connection) -> list[TracerState]:
    """As `load_tracers`, in one consistent look."""
    connection.execute("BEGIN")
    try:
        rows = _all(connection, f"SELECT {', '.join(_FIELDS)} FROM tracer ORDER BY id")
        found = {row[0]: TracerState(**dict(zip(_FIELDS, row, strict=True))) for row in rows}
        for tracer, number in _all(connection, _DEAD):
            found[tracer].dead = number
        for tracer, number, first_ns, first in _all(connection, _WAITING):
            state = found[tracer]
            state.pending, state.next_attempt_ns = number, first_ns
            sql, value = (
                (_OLDEST, tracer) if number <= _READ_EACH else ("SELECT due_ns FROM delivery WHERE id = ?", first)
            )
            ((state.oldest_due_ns,),) = _all(connection, sql, value)
        for tracer, number, due_ns in _all(connection, _UNDER_WAY):
            state = found[tracer]
            state.flushing, state.oldest_due_ns = number, min(due_ns, state.oldest_due_ns or due_ns)
    finally:
        connection.execute("COMMIT")
    return list(found.values())


def _all(connection: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    return connection.execute(sql, values).fetchall()
