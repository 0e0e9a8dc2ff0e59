"""A history of records, and what a database must hold when a prefix of it was recorded."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hush_core.background.supervisor import journal_directory
from hush_core.journal.format import parse_segment_name
from hush_core.model import (
    COMPLETED,
    INTERRUPTED,
    NODE,
    NODE_END,
    NODE_FIELDS,
    NODE_INTERRUPTED,
    NODE_OK,
    NODE_START,
    REQUEST_COMPLETE,
    REQUEST_COMPLETE_FIELDS,
    REQUEST_START,
    REQUEST_START_FIELDS,
)

_FIELDS: Final = {REQUEST_START: REQUEST_START_FIELDS, REQUEST_COMPLETE: REQUEST_COMPLETE_FIELDS}
_encode = msgspec.msgpack.Encoder().encode


class Record(NamedTuple):
    """One record: what is appended, and what it says."""

    kind: int
    request_id: str
    fields: dict[str, Any]

    @property
    def payload(self) -> bytes:
        said = {"request_id": self.request_id, **self.fields}
        return _encode((self.kind, *(said.get(name) for name in _FIELDS.get(self.kind, NODE_FIELDS))))


class Node(NamedTuple):
    """A row of `node`, with its payload."""

    request_id: str
    name: str
    status: str
    input_data: Any
    output_data: Any


class Stored(NamedTuple):
    """What of a history is in a database."""

    requests: dict[str, str]  #: id -> status
    nodes: list[Node]  #: sorted


def text_of(key: object, size: int) -> str:
    """A text that belongs to a key, so that a mixed-up or cut payload shows."""
    return random.Random(repr(key)).randbytes(size // 2).hex()


def history(requests: int, sizes: tuple[int, ...] = (60, 700, 2500), *, name: str = "r") -> list[Record]:
    """Requests one after the other, each with a node in two records and a node in one; every other one is completed."""
    records = []
    for index in range(requests):
        request_id = f"{name}-{index}"
        span = random.Random(request_id).getrandbits(60)
        size = sizes[index % len(sizes)]
        records += [
            Record(REQUEST_START, request_id, {"workflow_name": "crash", "start_time": 1}),
            Record(NODE_START, request_id, {"node_name": "outer", "span": span, "input_data": text_of(span, size)}),
            Record(NODE, request_id, {"node_name": "inner", "input_data": text_of(span + 1, size)}),
            Record(NODE_END, request_id, {"node_name": "outer", "span": span, "output_data": text_of(span + 2, size)}),
        ]
        if index % 2 == 0:
            records.append(Record(REQUEST_COMPLETE, request_id, {"tracer_type": "LocalTracer", "tracer_config": {}}))
    return records


def expected(records: list[Record]) -> Stored:
    """What a database must hold when exactly these records were kept, and the process that made them is gone."""
    requests: dict[str, str] = {}
    nodes: dict[object, Node] = {}
    for index, (kind, request_id, fields) in enumerate(records):
        requests.setdefault(request_id, INTERRUPTED)
        if kind == REQUEST_COMPLETE:
            requests[request_id] = COMPLETED
        elif kind != REQUEST_START:
            began = nodes.get(fields.get("span"))
            given = began.input_data if began else fields.get("input_data")
            status = NODE_INTERRUPTED if kind == NODE_START else NODE_OK
            nodes[fields.get("span", index)] = Node(
                request_id, fields["node_name"], status, given, fields.get("output_data")
            )
    return Stored(requests, sorted(nodes.values(), key=repr))


def stored(database: Path) -> Stored:
    """What a database holds."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        requests = dict(connection.execute("SELECT request_id, status FROM request").fetchall())
        rows = connection.execute(
            "SELECT request_id, node_name, node.status, input_data, output_data FROM node"
            " JOIN request ON request.id = node.request LEFT JOIN node_payload ON node_payload.node = node.id"
        ).fetchall()
    nodes = [Node(*row[:3], *(None if text is None else json.loads(text) for text in row[3:])) for row in rows]
    return Stored(requests, sorted(nodes, key=repr))


def totals(database: Path) -> dict[str, int]:
    """The counts of journals that have ended."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT name, count FROM total").fetchall())


def check_whole(database: Path) -> None:
    """The database is sound, every journal is ended and forgotten, and none of their files is left."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        for table in ("journal", "request_journal"):
            assert connection.execute(f"SELECT * FROM {table}").fetchall() == [], f"{table} is not empty"
    left = [path.name for path in journal_directory(database).iterdir() if parse_segment_name(path.name)]
    assert left == [], "segments were left behind"


def check_prefixes(database: Path, kept: list[tuple[list[Record], int]]) -> list[int]:
    """Of each process's records, exactly those whose append had returned are stored, and at most the one in flight.

    :param kept: per process, what it was to record and how many appends had returned. No two share a request.
    :return: per process, how many are stored.
    """
    check_whole(database)
    found = stored(database)
    requests = {record.request_id: index for index, (records, _) in enumerate(kept) for record in records}
    of_each = [Stored({}, []) for _ in kept]
    for request_id, status in found.requests.items():
        of_each[requests[request_id]].requests[request_id] = status
    for node in found.nodes:
        of_each[requests[node.request_id]].nodes.append(node)
    counts = []
    for what, (records, acknowledged) in zip(of_each, kept, strict=True):
        fits = [count for count in (acknowledged, acknowledged + 1) if what == expected(records[:count])]
        assert fits, f"{acknowledged} of {len(records)} appends had returned, stored are {what}"
        counts.append(min(fits))
    assert totals(database) == {"records_stored": sum(counts)}
    return counts
