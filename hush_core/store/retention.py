"""Keeps the database within its bounds: whole requests go, the delivered ones first, and of those the oldest first.

A request that runs is never pruned. One that is still due to a tracer is not pruned for its age; for size it goes last,
and is counted. With the requests go, now and then, the secrets and configurations that only they used (`unused.py`).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from hush_core.store.sqlite import ADD_TOTAL, SqliteStore
from hush_core.store.unused import drop_unused

#: Requests deleted in one transaction: small, so that records never wait long behind it.
_CHUNK: Final = 50
_INTERVAL_S: Final = 60.0
#: How often to look for what nothing uses any more: less often, since that reads every delivery.
_UNUSED_INTERVAL_S: Final = 3600.0
#: An older configuration of a tracer goes after `keep`, but not sooner than the first; without `keep`, after the
#: second.
_IDLE_MIN_S: Final = 86_400.0
_IDLE_S: Final = 30 * 86_400.0

_SETTLED: Final = """
    status <> 'running' AND NOT EXISTS (
        SELECT 1 FROM delivery WHERE delivery.request = request.id AND delivery.status IN ({unsettled}))"""
#: Which requests may go, in the order in which they are taken: delivered; then also dead letters; then also what is
#: due.
_CLASSES: Final = (
    ("delivered", _SETTLED.format(unsettled="'pending', 'flushing', 'failed'")),
    ("dead letter", _SETTLED.format(unsettled="'pending', 'flushing'")),
    ("undelivered", "status <> 'running'"),
)


class Pruned(NamedTuple):
    """What pruning did (or, on a dry run, would do)."""

    requests: int
    nodes: int
    undelivered: int  #: of the requests, those that were still due to a tracer
    bytes_before: int  #: of the database that hold data
    bytes_after: int
    dry_run: bool


class Retention:
    """The bounds of a database, and the pruning that keeps it there. Owned by the writer's loop."""

    def __init__(self, *, keep_s: float | None = None, max_size_bytes: int | None = None) -> None:
        self._keep_s = keep_s
        self._max_size_bytes = max_size_bytes
        self._next_at = self._unused_at = 0.0
        self._under_way: tuple[SqliteStore, Iterator[None]] | None = None

    def is_due(self) -> bool:
        """Whether there is something to do: it is time to look again, or a look is not at its end."""
        if self._keep_s is None and self._max_size_bytes is None:
            return False
        return self._under_way is not None or time.monotonic() >= self._next_at

    def prune_some(self, store: SqliteStore) -> None:
        """Delete one chunk, in a transaction of its own; call it again for as long as `is_due`."""
        self._next_at = time.monotonic() + _INTERVAL_S
        if self._under_way is None or self._under_way[0] is not store:
            self._under_way = store, self._steps(store, _Pruning(store.connection, dry_run=False))
        steps, self._under_way = self._under_way[1], None
        for _ in steps:
            self._under_way = store, steps
            return

    def prune(self, store: SqliteStore, *, dry_run: bool = False, between: Callable[[], object] = int) -> Pruned:
        """Delete what is too old, then what is too much, a chunk per transaction.

        :param between: called after each chunk, so that others are served meanwhile.
        """
        work = _Pruning(store.connection, dry_run)
        for _ in self._steps(store, work):
            between()
        return work.result()

    def _steps(self, store: SqliteStore, work: _Pruning) -> Iterator[None]:
        """Each step deletes a chunk; the last ones what nothing uses any more."""
        limit = self._max_size_bytes
        if self._keep_s is not None:
            oldest_ns = time.time_ns() - int(self._keep_s * 1e9)
            for kind, condition in _CLASSES[:2]:
                for _ in work.delete(kind, f"{condition} AND recorded_ns < {oldest_ns}"):
                    work.tell(store)
                    yield
        if limit is not None:
            for kind, condition in _CLASSES:
                for _ in work.delete(kind, condition, excess=lambda: work.used_bytes() - limit):
                    work.tell(store)
                    yield
        if not work.is_dry_run and time.monotonic() >= self._unused_at:
            self._unused_at = time.monotonic() + _UNUSED_INTERVAL_S
            yield from drop_unused(store, _IDLE_S if self._keep_s is None else max(self._keep_s, _IDLE_MIN_S))


class _Pruning:
    """One run: deletes (or, dry, only counts) chunk by chunk."""

    def __init__(self, connection: sqlite3.Connection, dry_run: bool) -> None:
        self._connection = connection
        self.is_dry_run = dry_run
        self._before = used_bytes(connection)
        self._freed_estimate = 0
        self._seen: set[int] = set()  # a dry run deletes nothing, so a later class would find the same again
        self.requests = self._nodes = self._undelivered = 0

    def used_bytes(self) -> int:
        return self._before - self._freed_estimate if self.is_dry_run else used_bytes(self._connection)

    def tell(self, store: SqliteStore) -> None:
        """Have the store forget what it keeps in memory of what is gone."""
        if not self.is_dry_run:
            store.after_deletion()

    def delete(self, kind: str, condition: str, excess: Callable[[], int] | None = None) -> Iterator[None]:
        """Take requests that meet a condition, the oldest first, a chunk a step.

        :param excess: how many bytes are too many now; takes no more requests than it needs. None: takes all.
        """
        place = (-1, -1)
        while excess is None or excess() > 0:
            rows = self._connection.execute(
                f"SELECT id, recorded_ns, node_count FROM request WHERE (recorded_ns, id) > (?, ?) AND {condition} "
                f"ORDER BY recorded_ns, id LIMIT {_CHUNK}",
                place,
            ).fetchall()
            if not rows:
                return
            place = (rows[-1][1], rows[-1][0])
            chosen = [row for row in rows if row[0] not in self._seen]
            if excess is not None and chosen:
                chosen = chosen[: self._enough([row[0] for row in chosen], excess())]
                place = (chosen[-1][1], chosen[-1][0])
            self.requests += len(chosen)
            self._nodes += sum(row[2] for row in chosen)
            self._undelivered += len(chosen) if kind == "undelivered" else 0
            ids = [row[0] for row in chosen]
            if self.is_dry_run:
                self._seen.update(ids)
                self._freed_estimate += sum(_estimate_bytes(self._connection, ids))
            else:
                _delete(self._connection, ids, sum(row[2] for row in chosen))
            yield

    def _enough(self, ids: list[int], excess_bytes: int) -> int:
        """How many of the requests, from the first on, free that much; at least one. A chunk can be gigabytes."""
        freed = 0
        for number, size in enumerate(_estimate_bytes(self._connection, ids), start=1):
            freed += size
            if freed >= excess_bytes:
                return number
        return len(ids)

    def result(self) -> Pruned:
        after = max(self.used_bytes(), 0)
        return Pruned(self.requests, self._nodes, self._undelivered, self._before, after, self.is_dry_run)


_OF_REQUESTS: Final = (
    "DELETE FROM node_payload WHERE node IN (SELECT id FROM node WHERE request IN ({ids}))",
    "DELETE FROM node WHERE request IN ({ids})",
    "DELETE FROM delivery WHERE request IN ({ids})",
    "DELETE FROM request_tag WHERE request IN ({ids})",
    "DELETE FROM request_journal WHERE request IN ({ids})",
    "DELETE FROM request WHERE id IN ({ids})",
)


def _delete(connection: sqlite3.Connection, ids: list[int], nodes: int) -> None:
    """Delete whole requests and count them, in one transaction; then give the pages back to the file system."""
    marks = ", ".join(map(str, ids))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _OF_REQUESTS:
            connection.execute(statement.format(ids=marks))
        connection.executemany(ADD_TOTAL, [("requests_pruned", len(ids)), ("nodes_pruned", nodes)])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    # Not `execute`, which takes one step of a statement without columns: that gives back a single page.
    connection.executescript("PRAGMA incremental_vacuum")


def _estimate_bytes(connection: sqlite3.Connection, ids: list[int]) -> list[int]:
    """About how many bytes each request takes: its payloads, and a fixed part for each row."""
    marks = ", ".join(map(str, ids))
    sizes = dict(
        connection.execute(
            "SELECT n.request, sum(200 + coalesce(length(p.input_data), 0) + coalesce(length(p.output_data), 0)"
            " + coalesce(length(p.metadata), 0) + coalesce(length(p.media), 0))"
            f" FROM node n JOIN node_payload p ON p.node = n.id WHERE n.request IN ({marks}) GROUP BY n.request"
        ).fetchall()
    )
    return [500 + int(sizes.get(request, 0)) for request in ids]


def used_bytes(connection: sqlite3.Connection) -> int:
    """Bytes of the database that hold data: its file without the pages that are free."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    return int((pages - free) * page_bytes)
