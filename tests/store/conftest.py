"""What the store's tests share: records as the app encodes them, and a store to put them into."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hush_core.model import NODE, NODE_FIELDS, REQUEST_COMPLETE, REQUEST_COMPLETE_FIELDS, REQUEST_START
from hush_core.model import REQUEST_START_FIELDS as START_FIELDS
from hush_core.store.sqlite import JournalState, Slice, SqliteStore

JOURNAL = "00" * 16
OTHER_JOURNAL = "11" * 16


def _encoded(kind: int, names: tuple[str, ...], fields: dict[str, Any]) -> bytes:
    assert not set(fields) - set(names), f"no such field: {set(fields) - set(names)}"
    return msgspec.msgpack.encode((kind, *(fields.get(name) for name in names)))


def node(kind: int = NODE, **fields: Any) -> bytes:
    """A record of a node, its start or its end."""
    return _encoded(kind, NODE_FIELDS, {"request_id": "r", "node_name": "n", **fields})


def begin(**fields: Any) -> bytes:
    """The record that a request has begun."""
    return _encoded(REQUEST_START, START_FIELDS, {"request_id": "r", **fields})


def complete(**fields: Any) -> bytes:
    """The record that a request is complete."""
    return _encoded(
        REQUEST_COMPLETE, REQUEST_COMPLETE_FIELDS, {"request_id": "r", "tracer_type": "LocalTracer", **fields}
    )


class StoreUnderTest:
    """A store, the positions of its journals, and its rows as dictionaries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = SqliteStore(path)
        self.refused: list[bytes] = []

    def put(self, *records: bytes, journal: str = JOURNAL) -> None:
        """Put records as the next of a journal, in one transaction."""
        known = self.store.journals().get(journal)
        state = known or JournalState(journal, pid=7, opened_ns=1, segment=0, offset=512, first=1, highest=0)
        since = (state.segment, state.offset) if known else None
        state.offset += sum(map(len, records))
        state.highest += len(records)
        self.store.put([Slice(state, list(records), since)], keep_refused=lambda _, record: self.refused.append(record))

    def end(self, journal: str = JOURNAL) -> list[str]:
        """The journal's process is gone, and all of it is stored."""
        return self.store.end_journals([self.store.journals()[journal]])[0]

    def reopen(self) -> None:
        """As the next writer process does."""
        self.store.close()
        self.store = SqliteStore(self.path)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        cursor = self.store.connection.execute(query, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def row(self, query: str, *values: object) -> dict[str, Any]:
        (found,) = self.rows(query, *values)
        return found

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM request ORDER BY id")

    @property
    def request(self) -> dict[str, Any]:
        (found,) = self.requests
        return found

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.rows(
            "SELECT node.*, input_data, output_data, metadata, media FROM node "
            "LEFT JOIN node_payload ON node_payload.node = node.id ORDER BY node.id"
        )

    @property
    def node(self) -> dict[str, Any]:
        (found,) = self.nodes
        return found


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[StoreUnderTest]:
    """A store on a database of the test's own."""
    under_test = StoreUnderTest(tmp_path / "traces.db")
    yield under_test
    under_test.store.close()


def read_only(path: Path) -> sqlite3.Connection:
    """A connection as a reader opens it."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)
