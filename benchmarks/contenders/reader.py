"""A reader beside the writer, as `hush tail` is one: it polls for a change, then reads what is new."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Final

_POLL_S: Final = 0.0005
_GIVE_UP_S: Final = 60.0


class Reader:
    """Sees nodes appear in a database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: sqlite3.Connection | None = None
        self._last = 0

    def open(self, db_path: str) -> None:
        """From now on, nodes are new."""
        self._connection = sqlite3.connect(f"file:{db_path}?mode=ro", uri=True, isolation_level=None)
        (self._last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM node").fetchone()

    def watch(self, nodes: int) -> list[int]:
        """When each of so many new nodes was first seen, in the order of their ids, monotonic nanoseconds."""
        assert self._connection is not None
        seen: list[int] = []
        version = None
        deadline = time.monotonic() + _GIVE_UP_S
        while len(seen) < nodes and time.monotonic() < deadline:
            (now,) = self._connection.execute("PRAGMA data_version").fetchone()
            if now == version:
                time.sleep(_POLL_S)
                continue
            version = now
            seen += self._new_nodes()
        return seen

    def _new_nodes(self) -> list[int]:
        assert self._connection is not None
        query = "SELECT id FROM node WHERE id > ? ORDER BY id"
        new = self._connection.execute(query, (self._last,)).fetchall()
        if new:
            self._last = new[-1][0]
        return [time.monotonic_ns()] * len(new)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def make(folder: Path) -> Reader:
    return Reader(folder)
