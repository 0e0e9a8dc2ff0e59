"""The ledger of deliveries: who must still get what, who is trying, and who has it.

::

    pending --claim--> flushing --ack--> flushed
       ^                  |
       +----release-------+--release--> failed (a dead letter, kept) or skipped (nobody wants it)

Each of these is one transaction. To settle what came of several attempts takes up to three, one after the other: `ack`,
`release`, and `note` of how the backend does. A writer that dies between them leaves the rest flushing.

A claim is a lease with a fence: what a process says that has lost its lease changes nothing. A lease has no end of its
own, since there is one writer: deliveries that were flushing when it died are pending again when the next one starts,
so every state has an exit, whatever dies.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Final, Literal, NamedTuple

from hush_core.model import DEAD, FLUSHED, FLUSHING, PENDING, SKIPPED

_CLAIM: Final = f"""
UPDATE delivery SET status = '{FLUSHING}', attempts = attempts + 1, lease_fence = lease_fence + 1,
    attempted_ns = :now
WHERE id IN (
    SELECT id FROM delivery WHERE tracer = :tracer AND origin = :origin AND status = '{PENDING}'
        AND next_attempt_ns <= :now
    ORDER BY next_attempt_ns, id LIMIT :limit)
RETURNING id, request, attempts, lease_fence"""
_ACK: Final = f"""
UPDATE delivery SET status = '{FLUSHED}', flushed_ns = ?, last_error = ?
WHERE id = ? AND lease_fence = ? AND status = '{FLUSHING}'"""
_RELEASE: Final = f"""
UPDATE delivery SET status = ?, next_attempt_ns = coalesce(?, next_attempt_ns), attempts = attempts - ?,
    last_error = coalesce(?, last_error)
WHERE id = ? AND lease_fence = ? AND status = '{FLUSHING}'"""
_NEXT_DUE: Final = f"""
SELECT min(next_attempt_ns) FROM delivery WHERE tracer = ? AND origin = ? AND status = '{PENDING}'"""
_INSERT: Final = """
INSERT OR IGNORE INTO delivery
    (request, tracer, origin, status, due_ns, flushed_ns, next_attempt_ns, last_error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_SEND_AGAIN: Final = f"""
INSERT INTO delivery (request, tracer, origin, status, due_ns, next_attempt_ns)
VALUES (?, ?, ?, '{PENDING}', ?, ?)
ON CONFLICT (request, tracer) DO UPDATE SET status = '{PENDING}', origin = excluded.origin, attempts = 0,
    due_ns = excluded.due_ns, next_attempt_ns = excluded.next_attempt_ns, last_error = NULL, flushed_ns = NULL
WHERE delivery.status IN ('{FLUSHED}', '{DEAD}', '{SKIPPED}')"""
_KEY_COLUMNS: Final = "(tracer_name, tracer_type, target, tracer_config)"
_SAME_TRACER: Final = "(t.tracer_name, t.tracer_type, t.target, t.tracer_config) = (?, ?, ?, ?)"
#: The origins of apps that had a settings file (or none).
_OF_SETTINGS: Final = "SELECT id FROM origin WHERE json_extract(origin, '$.config') IS ?"
#: The total of a tracer that each final status adds to.
_TOTALS: Final = {FLUSHED: "sent", DEAD: "failed", SKIPPED: "skipped"}


class TracerKey(NamedTuple):
    """What makes a tracer the same one."""

    name: str
    type: str
    target: str  #: "module:Class"; empty when only the type is known
    config: str  #: JSON text, secrets as references


class Lane(NamedTuple):
    """Deliveries that one process can make: one tracer, for apps of one origin."""

    tracer: int
    origin: int


class Claim(NamedTuple):
    """A delivery that is leased to one attempt."""

    id: int
    request: int  #: the request's row, not its public id
    attempt: int  #: 1 for the first
    fence: int


class Release(NamedTuple):
    """What becomes of a claim that was not delivered."""

    claim: Claim
    status: Literal["pending", "failed", "skipped"]
    error: str | None = None
    next_attempt_ns: int | None = None
    is_attempt: bool = True  #: False: it was not tried after all


class TracerRow(NamedTuple):
    """A tracer and how its backend did lately."""

    id: int
    key: TracerKey
    failures: int  #: attempts that failed in a row
    retry_ns: int  #: no attempt before
    paused: str | None  #: what somebody has to put right


class Ledger:
    """The deliveries of one database. Owned by the writer's loop; every change is one transaction.

    :param transaction: a context manager around statements that belong together.
    """

    def __init__(
        self, connection: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._connection = connection
        self._transaction = transaction
        self._new_lanes: set[Lane] = set()
        self.forget()

    def forget(self) -> None:
        """A transaction was undone: what is kept in memory may hold what was not stored."""
        self._ids: dict[TracerKey, int] = {}

    # -- what is due --------------------------------------------------------------------------------------------------

    def tracer(self, key: TracerKey) -> int:
        """The row of a tracer, made if it is new. Within a transaction of the caller's."""
        known = self._ids.get(key) or self._find(key)
        if known is None:
            sql = f"INSERT INTO tracer {_KEY_COLUMNS} VALUES (?, ?, ?, ?) RETURNING id"
            known = int(self._connection.execute(sql, key).fetchone()[0])
        self._ids[key] = known
        return known

    def _find(self, key: TracerKey) -> int | None:
        row = self._connection.execute(f"SELECT id FROM tracer WHERE {_KEY_COLUMNS} = (?, ?, ?, ?)", key).fetchone()
        return None if row is None else int(row[0])

    def add(self, status: str, lane: Lane, requests: list[tuple[int, str | None]], now_ns: int) -> None:
        """Note what is due, or settled at once. Within a transaction of the caller's. A pair that is there stays.

        :param requests: row and, where skipped, the reason.
        """
        flushed_ns = now_ns if status == FLUSHED else None
        rows = [(request, *lane, status, now_ns, flushed_ns, now_ns, reason) for request, reason in requests]
        added = self._connection.executemany(_INSERT, rows).rowcount
        self._count(lane.tracer, status, added)
        if status == PENDING:
            self._new_lanes.add(lane)

    def take_new_lanes(self) -> set[Lane]:
        """The lanes in which something has become due since the last call."""
        taken, self._new_lanes = self._new_lanes, set()
        return taken

    def lanes(self) -> set[Lane]:
        """Every lane in which something is pending."""
        sql = f"SELECT DISTINCT tracer, origin FROM delivery WHERE status = '{PENDING}'"
        return {Lane(*row) for row in self._all(sql)}

    def next_due_ns(self, lane: Lane) -> int | None:
        """When the next delivery of a lane is due; None when none is pending."""
        found: int | None = self._connection.execute(_NEXT_DUE, lane).fetchone()[0]
        return found

    def row(self, tracer: int) -> TracerRow:
        """A tracer by its row."""
        columns = "id, tracer_name, tracer_type, target, tracer_config, failures, retry_ns, paused"
        row = self._connection.execute(f"SELECT {columns} FROM tracer WHERE id = ?", (tracer,)).fetchone()
        return TracerRow(row[0], TracerKey(*row[1:5]), *row[5:])

    def origin(self, origin: int) -> str | None:
        """What is known of where requests come from, as JSON text."""
        row = self._connection.execute("SELECT origin FROM origin WHERE id = ?", (origin,)).fetchone()
        return None if row is None else str(row[0])

    # -- attempts -----------------------------------------------------------------------------------------------------

    def claim(self, lane: Lane, *, now_ns: int, limit: int) -> list[Claim]:
        """Lease up to ``limit`` deliveries that are due, the longest due first."""
        values = {"tracer": lane.tracer, "origin": lane.origin, "now": now_ns, "limit": limit}
        with self._transaction():
            rows = self._connection.execute(_CLAIM, values).fetchall()
        return [Claim(*row) for row in sorted(rows)]

    def ack(self, lane: Lane, claims: Iterable[tuple[Claim, str | None]], *, now_ns: int) -> int:
        """A backend took these. When this returns, they are never claimed again.

        Returns how many it was: a claim whose lease was lost changes nothing. Each comes with what the backend noted.
        """
        rows = [(now_ns, note, claim.id, claim.fence) for claim, note in claims]
        with self._transaction():
            taken = self._connection.executemany(_ACK, rows).rowcount
            self._count(lane.tracer, FLUSHED, taken)
            self._connection.execute("UPDATE tracer SET last_sent_ns = ? WHERE id = ?", (now_ns, lane.tracer))
        return int(taken)

    def release(self, lane: Lane, releases: Iterable[Release], *, now_ns: int) -> None:
        """These were not delivered: due again at a time, dead letters, or wanted by nobody. A lost lease changes
        nothing.
        """
        with self._transaction():
            for claim, status, error, next_attempt_ns, is_attempt in releases:
                row = (status, next_attempt_ns, 0 if is_attempt else 1, error, claim.id, claim.fence)
                if self._connection.execute(_RELEASE, row).rowcount:
                    self._count(lane.tracer, status, 1)
                    if error is not None and status != SKIPPED:
                        sql = "UPDATE tracer SET last_error = ?, last_error_ns = ? WHERE id = ?"
                        self._connection.execute(sql, (error, now_ns, lane.tracer))

    def note(self, tracer: int, *, failures: int, retry_ns: int, paused: str | None) -> None:
        """How a tracer's backend did lately."""
        sql = "UPDATE tracer SET failures = ?, retry_ns = ?, paused = ? WHERE id = ?"
        self._connection.execute(sql, (failures, retry_ns, paused, tracer))

    def reclaim(self) -> int:
        """Take back what a writer that is gone had leased. Only the elected writer may, when it starts."""
        sql = f"UPDATE delivery SET status = '{PENDING}' WHERE status = '{FLUSHING}'"
        with self._transaction():
            return int(self._connection.execute(sql).rowcount)

    def _count(self, tracer: int, status: str, number: int) -> None:
        if number > 0 and status in _TOTALS:
            total = _TOTALS[status]
            self._connection.execute(f"UPDATE tracer SET {total} = {total} + ? WHERE id = ?", (number, tracer))

    # -- what somebody asks for ---------------------------------------------------------------------------------------

    def flush_now(self, name: str | None, now_ns: int) -> tuple[int, set[int]]:
        """Make what waits due now, whatever it waits for. Gives how much it is, and the tracers it is of."""
        with self._transaction():
            tracers = self._named(name)
            marks = ", ".join(map(str, tracers))
            execute = self._connection.execute
            execute(f"UPDATE tracer SET failures = 0, retry_ns = 0, paused = NULL WHERE id IN ({marks})")
            execute(
                f"UPDATE delivery SET next_attempt_ns = ? WHERE tracer IN ({marks}) AND status = '{PENDING}'"
                " AND next_attempt_ns > ?",
                (now_ns, now_ns),
            )
            (due,) = execute(
                f"SELECT count(*) FROM delivery WHERE tracer IN ({marks}) AND status = '{PENDING}'"
            ).fetchone()
        return int(due), set(tracers)

    def adopt(self, key: TracerKey, config: str | None) -> int:
        """Have a tracer as it is configured now deliver what waits for an older configuration of the same name.

        Dead letters go with it. Gives how many are its own now; one that it has itself already is given up.

        :param config: the settings file. Only what apps with the same one recorded: another app may call another
            tracer by this name.
        """
        marks = "SELECT id FROM tracer WHERE tracer_name = ? AND id <> ?"
        waits = f"tracer IN ({marks}) AND status IN ('{PENDING}', '{DEAD}') AND origin IN ({_OF_SETTINGS})"
        known = self._find(key) or 0
        if not self._all(f"SELECT 1 FROM delivery WHERE {waits} LIMIT 1", (key.name, known, config)):
            return 0
        with self._transaction():
            new = self.tracer(key)
            sql = f"UPDATE OR IGNORE delivery SET tracer = ? WHERE {waits} RETURNING origin"
            moved = self._all(sql, (new, key.name, new, config))
            self._connection.execute(f"DELETE FROM delivery WHERE {waits}", (key.name, new, config))
        self._new_lanes.update(Lane(new, origin) for (origin,) in moved)
        return len(moved)

    def redrive(self, name: str | None, request_id: str | None, now_ns: int) -> int:
        """Make dead letters due again, with a fresh count of attempts."""
        with self._transaction():
            tracers = self._named(name)
            marks = ", ".join(map(str, tracers))
            sql = (
                f"UPDATE delivery SET status = '{PENDING}', attempts = 0, next_attempt_ns = ?, due_ns = ?"
                f" WHERE tracer IN ({marks}) AND status = '{DEAD}'"
            )
            values: list[Any] = [now_ns, now_ns]
            if request_id is not None:
                sql += " AND request = (SELECT id FROM request WHERE request_id = ?)"
                values.append(request_id)
            number = self._connection.execute(f"{sql} RETURNING tracer, origin", values).fetchall()
        self._new_lanes.update(Lane(*row) for row in number)
        return len(number)

    def to_send(self, key: TracerKey, config: str | None, requests: list[int], *, again: bool) -> list[int]:
        """Which of these requests a replay to a tracer sends: those that were not due to it, or with ``again`` those
        that do not wait for it now. It is the same tracer also under an older configuration of the same settings file.
        """
        marks = ", ".join(map(str, requests))
        waiting = f" AND d.status IN ('{PENDING}', '{FLUSHING}')" if again else ""
        sql = (
            "SELECT d.request FROM delivery d JOIN tracer t ON t.id = d.tracer"
            f" WHERE d.request IN ({marks}){waiting} AND t.tracer_name = ?"
            f" AND (d.origin IN ({_OF_SETTINGS}) OR {_SAME_TRACER})"
        )
        left_out = {request for (request,) in self._all(sql, (key.name, config, *key))}
        return [request for request in requests if request not in left_out]

    def send_again(self, lane: Lane, requests: list[int], now_ns: int) -> None:
        """Make these stored requests due to a tracer, whatever had become of them there."""
        with self._transaction():
            self._connection.executemany(_SEND_AGAIN, [(request, *lane, now_ns, now_ns) for request in requests])
        self._new_lanes.add(lane)

    def count_open(self) -> int:
        """How many deliveries are pending or under way."""
        counts = [self._all(f"SELECT count(*) FROM delivery WHERE status = '{each}'") for each in (PENDING, FLUSHING)]
        return sum(int(rows[0][0]) for rows in counts)

    def _named(self, name: str | None) -> list[int]:
        """The rows of the tracers of a name, or of all."""
        sql = "SELECT id FROM tracer" + ("" if name is None else " WHERE tracer_name = ?")
        return [row[0] for row in self._all(sql, () if name is None else (name,))]

    def _all(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        return self._connection.execute(sql, values).fetchall()
