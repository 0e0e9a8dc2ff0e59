"""The store on SQLite: what the writer process holds. It is the one connection that writes."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from time import time_ns
from typing import Any, Final, NamedTuple

import msgspec

from hush_core.errors import StoreError
from hush_core.model import (
    FLUSHED,
    INTERRUPTED,
    LOCAL_TARGET,
    LOCAL_TRACER,
    NODE_INTERRUPTED,
    PENDING,
    RUNNING,
    SKIPPED,
)
from hush_core.store.batch import ENDED_COLUMNS, NODE_COLUMNS, Batch, Due, RequestEntry
from hush_core.store.database import open_database
from hush_core.store.ledger import Lane, Ledger, TracerKey
from hush_core.store.policy import reason_to_skip
from hush_core.store.rows import to_faithful_json

# Before it binds a None, sqlite3 looks for something to adapt it with, at length. Told that there is nothing to do, it
# stores a row with twenty columns, most of them empty, in two thirds of the time (on Python 3.10 and 3.11).
sqlite3.register_adapter(type(None), {}.get)  # type: ignore[arg-type]

#: Requests whose rows are kept in memory, so that a further record of theirs reads nothing.
_CACHED_REQUESTS: Final = 10_000
#: Journals that are gone of which it is remembered where their records came from.
_PAST_ORIGINS: Final = 1000

_REQUEST_COLUMNS: Final = (
    "id", "request_id", "workflow_name", "user_id", "session_id", "status", "start_ns", "end_ns", "error", "tags",
    "node_count", "error_count", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd", "recorded_ns",
    "tracers", "marked",
)  # fmt: skip


def _insert(table: str, columns: Iterable[str]) -> str:
    names = tuple(columns)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


_INSERT_NODE: Final = _insert("node", NODE_COLUMNS)
_PAYLOAD_COLUMNS: Final = ("node", "input_data", "output_data", "metadata", "media")
_INSERT_PAYLOAD: Final = _insert("node_payload", _PAYLOAD_COLUMNS)
_END_PAYLOAD: Final = f"{_INSERT_PAYLOAD} ON CONFLICT (node) DO UPDATE SET " + ", ".join(
    f"{name} = coalesce(excluded.{name}, {name})" for name in _PAYLOAD_COLUMNS[1:]
)
_ENDED_COLUMNS: Final = NODE_COLUMNS[ENDED_COLUMNS]
_END_NODE: Final = f"UPDATE node SET {', '.join(f'{n} = coalesce(?, {n})' for n in _ENDED_COLUMNS)} WHERE id = ?"
# The end says only its own time; the duration is counted from the start that an earlier batch stored.
_TIME_ENDED: Final = "UPDATE node SET duration_ms = (end_ns - start_ns) / 1e6 WHERE id = ? AND duration_ms IS NULL"
_PUT_REQUEST: Final = f"{_insert('request', _REQUEST_COLUMNS)} ON CONFLICT (id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _REQUEST_COLUMNS[2:] if name != "recorded_ns"
)
_JOURNAL_COLUMNS: Final = (
    "journal_id", "pid", "opened_ns", "origin", "segment", "offset", "first", "highest", "elsewhere", "stored",
    "set_aside", "dropped",
)  # fmt: skip
_PUT_JOURNAL: Final = f"{_insert('journal', _JOURNAL_COLUMNS)} ON CONFLICT (journal_id) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in _JOURNAL_COLUMNS[3:]
)
ADD_TOTAL: Final = (
    "INSERT INTO total (name, count) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET count = count + excluded.count"
)


class OtherWriterError(StoreError):
    """Somebody else stores the same journals. This writer must end; the other one goes on."""


class JournalState(msgspec.Struct):
    """How far one journal has been stored, and what was counted on the way: a row of ``journal``."""

    journal_id: str
    pid: int
    opened_ns: int
    segment: int
    offset: int
    first: int
    highest: int = -1
    elsewhere: int = 0  #: sequences of records stored in a database that is gone
    stored: int = 0
    set_aside: int = 0
    dropped: dict[str, int] = {}
    origin: int | None = None


class Slice(NamedTuple):
    """Records of one journal, and the state behind them."""

    state: JournalState
    payloads: list[bytes]
    since: tuple[int, int] | None  #: the (segment, offset) that the store has; None for a journal it does not know


class SqliteStore:
    """The one writer of a database. Not thread-safe: the writer's loop owns it.

    Every method either does all it says, in one transaction, or raises having done nothing: sqlite3.Error,
    OtherWriterError, or what a callback raised.
    """

    def __init__(self, path: Path, *, connect: Callable[[Path], sqlite3.Connection] = open_database) -> None:
        self.path = path
        self._connection = connect(path)
        self.ledger = Ledger(self._connection, lambda: self._transaction(durable=False))  #: of what is due to tracers
        #: What each live journal said of where its records come from. Only its first record says it, and another
        #: database may come in the place of this one.
        self.origin_texts: dict[str, str] = {}
        self._past_origins: dict[str, int] = {}  # of journals that are gone, whose app may still say something
        try:
            self._reload()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection; SQLite copies the write-ahead log into the database and removes it."""
        self._connection.close()

    def _reload(self) -> None:
        """Take all that is kept in memory from the tables: at the start, and when something else changed them."""
        execute = self._connection.execute
        self._requests: OrderedDict[str, RequestEntry] = OrderedDict()
        self._next_request = execute("SELECT coalesce(max(id), 0) + 1 FROM request").fetchone()[0]
        self._next_node = execute("SELECT coalesce(max(id), 0) + 1 FROM node").fetchone()[0]
        self._open_nodes: dict[int, int] = dict(
            execute("SELECT span, id FROM node WHERE status = 'running' AND span IS NOT NULL").fetchall()
        )
        self._origins: dict[str, int | None] = dict(execute("SELECT journal_id, origin FROM journal").fetchall())
        self.ledger.forget()
        self._is_stale = False

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        """All or nothing of what is done inside."""
        self._finish_rollback()
        if self._is_stale:
            self._reload()
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._is_stale = True  # what is kept in memory holds what was not stored
            self._finish_rollback()
            raise

    def _finish_rollback(self) -> None:
        """Undo what a failed transaction left. Tried again before anything else: the disk may refuse even this."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # -- put ----------------------------------------------------------------------------------------------------------

    def put(
        self,
        slices: list[Slice],
        *,
        keep_refused: Callable[[str, bytes], None],
        durable: bool = False,
    ) -> None:
        """Store records together with their journals' positions: each lands exactly once, whatever dies when.

        When this returns, the records survive the death of every process; with ``durable`` also a power cut (without,
        a power cut takes back positions and rows alike, and the journals still hold them).

        :param keep_refused: (journal id, record): called, before the commit, for each record that cannot be read; it is
            counted as set aside. May be called again for the same record if the transaction fails.
        """
        now_ns = time_ns()
        with self._transaction(durable=durable):
            for slice_ in slices:
                self._expect_position(slice_)
            batch = Batch(
                lambda key: self._entry(key, now_ns), self._next_node, self._open_nodes, now_ns, self._left_nodes
            )
            for state, payloads, _ in slices:
                before, refused = batch.stored, len(batch.refused)
                for payload in payloads:
                    batch.add(state.journal_id, payload)
                state.stored += batch.stored - before
                state.set_aside += len(batch.refused) - refused
            for journal_id, payload in batch.refused:
                keep_refused(journal_id, payload)
            self._write(batch, now_ns)
            for state, _, _ in slices:
                self._put_journal(state)
        self._adopt(batch)

    def _expect_position(self, slice_: Slice) -> None:
        """Refuse what another writer has stored meanwhile: so records land once even if an election went wrong."""
        row = self._connection.execute(
            "SELECT segment, offset FROM journal WHERE journal_id = ?", (slice_.state.journal_id,)
        ).fetchone()
        if row != slice_.since:
            raise OtherWriterError(
                f"Another writer works on {self.path}: journal {slice_.state.journal_id} is stored up to {row}, "
                f"not {slice_.since}. Was its directory deleted or replaced?"
            )

    def _write(self, batch: Batch, now_ns: int) -> None:
        many = self._connection.executemany
        many(_PUT_REQUEST, [_request_row(entry) for entry in batch.dirty.values()])
        many(_INSERT_NODE, batch.nodes)
        many(_INSERT_PAYLOAD, batch.payloads)
        if batch.ended_nodes:
            many(_END_NODE, [(*row[ENDED_COLUMNS], row[0]) for row in batch.ended_nodes])
            many(_TIME_ENDED, [(row[0],) for row in batch.ended_nodes])
            many(_END_PAYLOAD, batch.ended_payloads)
        if batch.new_tags:
            many("INSERT OR IGNORE INTO request_tag (tag, request) VALUES (?, ?)", batch.new_tags)
        if batch.revived:
            many("DELETE FROM delivery WHERE request = ?", [(request,) for request in batch.revived])
        if batch.settled:  # first: a node may have begun again since
            many("DELETE FROM request_journal WHERE request = ?", [(request,) for request in batch.settled])
        open_pairs = [(entry.id, journal_id) for entry in batch.dirty.values() for journal_id in entry.journals]
        if open_pairs:
            many("INSERT OR IGNORE INTO request_journal (request, journal_id) VALUES (?, ?)", open_pairs)
        for journal_id, origin in batch.origins:
            self.origin_texts[journal_id] = origin
            self._origins[journal_id] = self._origin(origin)
        self._note_due(batch.due, now_ns)

    def _adopt(self, batch: Batch) -> None:
        """After the commit: remember what began and what ended."""
        self._next_node = batch.next_node_id
        for span, (row, _) in batch.started.items():
            self._open_nodes[span] = row[0]
        for span in batch.ended:
            self._open_nodes.pop(span, None)
        while len(self._requests) > _CACHED_REQUESTS:
            self._requests.popitem(last=False)

    def _entry(self, request_id: str, now_ns: int) -> RequestEntry:
        entry = self._requests.get(request_id)
        if entry is None:
            entry = self._load_request(request_id) or self._new_request(request_id, now_ns)
            self._requests[request_id] = entry
        else:
            self._requests.move_to_end(request_id)
        return entry

    def _left_nodes(self, request: int, span: int) -> list[int]:
        sql = f"SELECT id FROM node WHERE request = ? AND span = ? AND status = '{NODE_INTERRUPTED}' ORDER BY id"
        return [node_id for (node_id,) in self._connection.execute(sql, (request, span)).fetchall()]

    def _new_request(self, request_id: str, now_ns: int) -> RequestEntry:
        entry = RequestEntry(self._next_request, request_id, now_ns)
        self._next_request += 1
        return entry

    def _load_request(self, request_id: str) -> RequestEntry | None:
        row = self._connection.execute(
            f"SELECT {', '.join(_REQUEST_COLUMNS)} FROM request WHERE request_id = ?", (request_id,)
        ).fetchone()
        if row is None:
            return None
        values = dict(zip(_REQUEST_COLUMNS, row, strict=True))
        entry = RequestEntry(values["id"], request_id, values["recorded_ns"])
        values["tags"] = msgspec.json.decode(values["tags"])
        for name, value in values.items():
            setattr(entry, name, value)
        (entry.open_nodes,) = self._connection.execute(
            "SELECT count(*) FROM node WHERE request = ? AND status = 'running' AND span IS NOT NULL", (entry.id,)
        ).fetchone()
        return entry

    def _note_due(self, due: list[Due], now_ns: int) -> None:
        """Who gets these requests. What is due to the local tracer is delivered by being stored."""
        found: dict[tuple[str, Lane], list[tuple[int, str | None]]] = {}
        for request, name, kind, config, target, policy, journal_id in due:
            lane = Lane(self.ledger.tracer(TracerKey(name, kind, target, config)), self.origin_of(journal_id))
            reason = reason_to_skip(policy, request)
            is_local = kind == LOCAL_TRACER and target in ("", LOCAL_TARGET)
            status = SKIPPED if reason is not None else FLUSHED if is_local else PENDING
            found.setdefault((status, lane), []).append((request.id, reason))
        for (status, lane), requests in found.items():
            self.ledger.add(status, lane, requests, now_ns)

    def origin_of(self, journal_id: str) -> int:
        """The row of what is known of where a journal's records come from; 0 if nothing is."""
        found = self._origins.get(journal_id) or self._past_origins.get(journal_id)
        if not found and journal_id in self.origin_texts:  # it was told to the database that was here before
            found = self._origins[journal_id] = self._origin(self.origin_texts[journal_id])
        return found or 0

    def lane(self, tracer: TracerKey, origin: dict[str, Any] | None) -> Lane:
        """The lane of a tracer for apps of an origin; both are made if they are new."""
        with self._transaction(durable=False):
            row = 0 if origin is None else self._origin(to_faithful_json(origin) or "{}")
            return Lane(self.ledger.tracer(tracer), row)

    def _origin(self, origin: str) -> int:
        digest = sha256(origin.encode()).hexdigest()
        execute = self._connection.execute
        execute("INSERT OR IGNORE INTO origin (digest, origin) VALUES (?, ?)", (digest, origin))
        row = execute("SELECT id FROM origin WHERE digest = ?", (digest,)).fetchone()
        return int(row[0])

    # -- journals -----------------------------------------------------------------------------------------------------

    def journals(self) -> dict[str, JournalState]:
        """The state of every journal that is not forgotten."""
        self._finish_rollback()
        rows = self._connection.execute(f"SELECT {', '.join(_JOURNAL_COLUMNS)} FROM journal").fetchall()
        found = {}
        for row in rows:
            values = dict(zip(_JOURNAL_COLUMNS, row, strict=True))
            values["dropped"] = msgspec.json.decode(values["dropped"])
            found[row[0]] = JournalState(**values)
        return found

    def _put_journal(self, state: JournalState) -> None:
        state.origin = self.origin_of(state.journal_id) or state.origin
        row = [getattr(state, name) for name in _JOURNAL_COLUMNS]
        row[-1] = msgspec.json.encode(state.dropped).decode()
        self._connection.execute(_PUT_JOURNAL, row)

    def end_journals(self, states: list[JournalState]) -> list[list[str]]:
        """The processes of these journals are gone and all of them is stored: interrupt what they alone had open.

        Returns, for each, the ids of the requests that became interrupted. Durable: after this, the files may go. One
        transaction for all: it syncs, and a server may end hundreds of processes at once.
        """
        now_ns = time_ns()
        with self._transaction(durable=True):
            left = [self._end_journal(state, now_ns) for state in states]
        self._is_stale = True
        return left

    def _end_journal(self, state: JournalState, now_ns: int) -> list[str]:
        execute = self._connection.execute
        self._put_journal(state)
        execute("UPDATE journal SET ended_ns = ? WHERE journal_id = ?", (now_ns, state.journal_id))
        mine = execute("SELECT request FROM request_journal WHERE journal_id = ?", (state.journal_id,)).fetchall()
        execute("DELETE FROM request_journal WHERE journal_id = ?", (state.journal_id,))
        left = [
            self._leave_request(request, state.journal_id, now_ns)
            for (request,) in mine
            if execute("SELECT 1 FROM request_journal WHERE request = ?", (request,)).fetchone() is None
        ]
        return [request_id for request_id in left if request_id is not None]

    def _leave_request(self, request: int, journal_id: str, now_ns: int) -> str | None:
        """The last process that had something open in a request is gone: nothing in it runs any more.

        Returns the request's id if it was not complete: then it is interrupted, and due to its tracers so.
        """
        execute = self._connection.execute
        execute("UPDATE node SET status = 'interrupted' WHERE request = ? AND status = 'running'", (request,))
        interrupted = execute(
            "UPDATE request SET status = ?, end_ns = coalesce(end_ns, ?) WHERE id = ? AND status = ?",
            (INTERRUPTED, now_ns, request, RUNNING),
        )
        if not interrupted.rowcount:
            return None
        (request_id,) = execute("SELECT request_id FROM request WHERE id = ?", (request,)).fetchone()
        entry = self._load_request(request_id)
        assert entry is not None
        due = [
            Due(entry, name, kind, msgspec.json.encode(config).decode(), target, policy, journal_id)
            for name, kind, config, target, policy in msgspec.json.decode(entry.tracers or "[]")
        ]
        self._note_due(due, now_ns)
        return str(request_id)

    def forget_journals(self, states: list[JournalState]) -> None:
        """Fold the counts of ended journals into the totals. Only when their files are gone for good."""
        with self._transaction(durable=False):
            for state in states:
                if self._connection.execute("DELETE FROM journal WHERE journal_id = ?", (state.journal_id,)).rowcount:
                    counts = {"records_stored": state.stored, "records_set_aside": state.set_aside}
                    counts |= {f"dropped:{reason}": n for reason, n in state.dropped.items()}
                    self._connection.executemany(ADD_TOTAL, [(name, n) for name, n in counts.items() if n])
        for state in states:
            self.origin_texts.pop(state.journal_id, None)
            origin = self._origins.pop(state.journal_id, None)
            if origin is not None:
                self._past_origins[state.journal_id] = origin
        while len(self._past_origins) > _PAST_ORIGINS:
            del self._past_origins[next(iter(self._past_origins))]

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database and cut it to nothing, when there is time for it."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def connection(self) -> sqlite3.Connection:
        """For the parts of the writer that change the database by their own rules (retention)."""
        self._finish_rollback()
        return self._connection

    def remembered_origins(self) -> set[int]:
        """The rows of origins that are kept in memory: they must stay."""
        return {row for row in (*self._origins.values(), *self._past_origins.values()) if row}

    def after_deletion(self) -> None:
        """Requests were deleted through the connection: forget what is kept of them in memory."""
        self._is_stale = True


def _request_row(entry: RequestEntry) -> tuple[Any, ...]:
    return (
        entry.id, entry.request_id, entry.workflow_name, entry.user_id, entry.session_id, entry.status, entry.start_ns,
        entry.end_ns, entry.error, msgspec.json.encode(entry.tags).decode(), entry.node_count, entry.error_count,
        _bounded(entry.prompt_tokens), _bounded(entry.completion_tokens), _bounded(entry.total_tokens), entry.cost_usd,
        entry.recorded_ns, entry.tracers, entry.marked,
    )  # fmt: skip


def _bounded(count: int | None) -> int | None:
    """A sum as its column can hold it: each part did, but all together may not."""
    return None if count is None else max(-(2**63), min(count, 2**63 - 1))
