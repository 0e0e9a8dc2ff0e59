"""The nodes of a request, read in pages; and what a row of a node is made of."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from hush_core.store.stored import StoredNode

_PAYLOADS: Final = ("input_data", "output_data", "metadata", "media")
#: The columns of `node`; the parent is resolved by `hush_core.store.tree`, not stored.
_NODE_FIELDS: Final = tuple(name for name in StoredNode.__struct_fields__ if name not in (*_PAYLOADS, "parent_id"))
NODE_COLUMNS: Final = ", ".join(f"n.{name}" for name in _NODE_FIELDS)
_PAYLOAD_COLUMNS: Final = ", ".join(f"p.{name}" for name in _PAYLOADS)
_PAGE: Final = 2000


def load_nodes(connection: sqlite3.Connection, request: int, *, payloads: bool = False) -> list[StoredNode]:
    """All nodes of a request, given by its row, in the order in which the store saw them.

    Read in pages, so that a request of a million nodes does not hold the writer's log either.
    """
    extra, join = (f", {_PAYLOAD_COLUMNS}", "LEFT JOIN node_payload p ON p.node = n.id") if payloads else ("", "")
    sql = f"SELECT {NODE_COLUMNS}{extra} FROM node n {join} WHERE n.request = ? AND n.id > ? ORDER BY n.id LIMIT ?"
    nodes: list[StoredNode] = []
    while True:
        after = nodes[-1].id if nodes else 0
        rows = connection.execute(sql, (request, after, _PAGE)).fetchall()
        nodes += [to_node(row) for row in rows]
        if len(rows) < _PAGE:
            return nodes


def to_node(row: tuple[Any, ...]) -> StoredNode:
    """A node of the values of `NODE_COLUMNS`, and after them those of the payload if they were read."""
    values = dict(zip((*_NODE_FIELDS, *_PAYLOADS), row))  # noqa: B905 - the payload may not be there
    values["contain_generation"] = bool(values["contain_generation"])
    for name in _PAYLOADS:
        values[name] = _decode(values.get(name))
    return StoredNode(**values)


def _decode(text: str | None) -> Any:
    """A stored value. What is not JSON (somebody else wrote it), or nested too deep to be read, stays text as it is."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
