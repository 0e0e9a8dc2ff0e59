"""What has happened since the last look: nodes that have begun or ended, requests that have ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from hush_core.model import COMPLETED, NODE_RUNNING, RUNNING
from hush_core.store.queries.nodes import NODE_COLUMNS, to_node
from hush_core.store.queries.reader import EmptyDatabaseError, explained, file_status, open_reader
from hush_core.store.queries.requests import REQUEST_COLUMNS, RequestFilter, to_request
from hush_core.store.stored import StoredNode, StoredRequest

#: Rows in one read, and ids in one condition.
_PAGE: Final = 500
_NODES: Final = f"SELECT {NODE_COLUMNS}, r.request_id, r.workflow_name FROM node n JOIN request r ON r.id = n.request"
_REQUESTS: Final = f"SELECT {REQUEST_COLUMNS} FROM request r"
# Both are answered from an index of what runs alone, however large the tables are.
_RUNNING_NODES: Final = f"SELECT id FROM node WHERE status = '{NODE_RUNNING}'"
_RUNNING_REQUESTS: Final = f"SELECT id FROM request WHERE status = '{RUNNING}' AND status <> '{COMPLETED}'"


class Event(NamedTuple):
    """Something that happened to a node, or to a request as a whole (then without a node)."""

    kind: Literal["node_started", "node_ended", "request_ended"]
    at_ns: int
    request_id: str
    workflow_name: str | None
    node: StoredNode | None
    request: StoredRequest | None


class Feed:
    """Follows a database: each `poll` gives what has happened since the last one.

    Costs the writer nothing: a poll with nothing new is one pragma, and every read is short. The database may be made,
    deleted or replaced meanwhile. Belongs to one thread; close it when done.
    """

    def __init__(self, db_path: Path | str, wanted: RequestFilter) -> None:
        self._path = Path(db_path)
        self._where, self._values = wanted.where()
        self._connection: sqlite3.Connection | None = None
        self._forget()

    def _forget(self) -> None:
        self._inode = 0
        self._version = -1
        self._last_node = self._last_request = 0
        self._open_nodes: set[int] = set()
        self._open_requests: set[int] = set()

    def close(self) -> None:
        """Let go of the database."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def begin(self, newest: int) -> list[Event]:
        """What runs now and the newest nodes that are there, in the order of time; `poll` gives what comes after."""
        connection = self._connected()
        if connection is None:
            return []
        with explained(self._path):
            self._last_node, self._last_request = self._ends(connection)
            nodes = {row[0]: row for row in self._running(connection)}
            sql = f"{_NODES} WHERE n.id <= ? AND {self._where} ORDER BY n.id DESC LIMIT ?"
            for row in connection.execute(sql, (self._last_node, *self._values, newest)).fetchall():
                nodes[row[0]] = row
            self._open_requests = self._ids(connection, _RUNNING_REQUESTS)
        return _in_time([self._node_event(row) for row in nodes.values()])

    def poll(self) -> list[Event]:
        """What has happened since the last call, in the order of time. Empty also while there is no database.

        Raises StoreError when the file is no database of this hush, or has become unreadable.
        """
        connection = self._connected()
        if connection is None:
            return []
        with explained(self._path):
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return []
            self._version = version
            return _in_time([*self._new(connection), *self._ended(connection)])

    def _connected(self) -> sqlite3.Connection | None:
        status = file_status(self._path)
        if status is None:
            self.close()
            return None
        inode = status.st_ino
        if self._connection is None or inode != self._inode:
            self.close()
            self._forget()
            try:
                self._connection = open_reader(self._path)
            except EmptyDatabaseError:
                return None
            self._inode = inode
        return self._connection

    # -- reads --------------------------------------------------------------------------------------------------------

    def _ends(self, connection: sqlite3.Connection) -> tuple[int, int]:
        (node,) = connection.execute("SELECT coalesce(max(id), 0) FROM node").fetchone()
        (request,) = connection.execute("SELECT coalesce(max(id), 0) FROM request").fetchone()
        return int(node), int(request)

    def _ids(self, connection: sqlite3.Connection, sql: str) -> set[int]:
        return {number for (number,) in connection.execute(sql).fetchall()}

    def _running(self, connection: sqlite3.Connection) -> list[Any]:
        # What was stored since the last node was looked for, the next poll gives.
        ids = sorted(number for number in self._ids(connection, _RUNNING_NODES) if number <= self._last_node)
        return self._rows(connection, f"{_NODES} WHERE n.id IN ({{ids}}) AND {self._where}", ids, self._values)

    def _rows(self, connection: sqlite3.Connection, sql: str, ids: Iterable[int], values: list[Any]) -> list[Any]:
        """Rows by their ids, a page at a time."""
        wanted, found = list(ids), []
        for at in range(0, len(wanted), _PAGE):
            marks = ", ".join(map(str, wanted[at : at + _PAGE]))
            found += connection.execute(sql.format(ids=marks), values).fetchall()
        return found

    def _new(self, connection: sqlite3.Connection) -> list[Event]:
        last_node, last_request = self._ends(connection)
        events = []
        while True:
            sql = f"{_NODES} WHERE n.id > ? AND n.id <= ? AND {self._where} ORDER BY n.id LIMIT {_PAGE}"
            rows = connection.execute(sql, (self._last_node, last_node, *self._values)).fetchall()
            events += [self._node_event(row) for row in rows]
            self._last_node = rows[-1][0] if len(rows) == _PAGE else last_node
            if len(rows) < _PAGE:
                break
        self._open_requests |= self._ids(
            connection, f"SELECT id FROM request WHERE id > {self._last_request} AND id <= {last_request}"
        )
        self._last_request = last_request
        return events

    def _ended(self, connection: sqlite3.Connection) -> list[Event]:
        """Nodes and requests that were running when they were last seen (or are new), and have ended."""
        events = []
        if self._open_nodes:
            ended = self._open_nodes - self._ids(connection, _RUNNING_NODES)
            self._open_nodes -= ended  # also those that are gone, deleted by pruning
            rows = self._rows(connection, f"{_NODES} WHERE n.id IN ({{ids}})", sorted(ended), [])
            events += [self._node_event(row) for row in rows]
        if self._open_requests:
            ended = self._open_requests - self._ids(connection, _RUNNING_REQUESTS)
            self._open_requests -= ended
            sql = f"{_REQUESTS} WHERE r.id IN ({{ids}}) AND {self._where}"
            requests = [to_request(row) for row in self._rows(connection, sql, sorted(ended), self._values)]
            events += [
                Event("request_ended", request.end_ns or 0, request.request_id, request.workflow_name, None, request)
                for request in requests
            ]
        return events

    def _node_event(self, row: tuple[Any, ...]) -> Event:
        *columns, request_id, workflow_name = row
        node = to_node(tuple(columns))
        if node.status == NODE_RUNNING:
            self._open_nodes.add(node.id)
            return Event("node_started", node.start_ns or 0, request_id, workflow_name, node, None)
        self._open_nodes.discard(node.id)
        return Event("node_ended", node.end_ns or node.start_ns or 0, request_id, workflow_name, node, None)


def _in_time(events: list[Event]) -> list[Event]:
    """In the order of time; of one instant, nodes before their request's end."""
    return sorted(events, key=lambda event: (event.at_ns, event.kind == "request_ended"))
