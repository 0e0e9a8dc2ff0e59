"""Seams that break: the file system and the database connection, with a fuse that blows at their n-th call.

What blows is chosen by the test: the process dies, or does something else in the middle of the call. The product has no
part in it: `Files` and `connect` are arguments of the journal and the writer.
"""

from __future__ import annotations

import mmap
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hush_core.store.database import open_database
from hush_core.system import Files, Mapping

#: Calls that change nothing: the instant after one is the instant before the next.
_LOOKS: Final = frozenset({"can_map", "free_bytes", "identity", "list", "map_readonly", "read", "size"})
#: Statements that change nothing.
_ASKS: Final = ("SELECT", "PRAGMA")

BEFORE: Final = "before"
AFTER: Final = "after"  #: only calls that change something are counted
HALFWAY: Final = "halfway"  #: only writes are counted: the first half of the bytes is written


def die() -> None:
    """End this process as `kill -9` does: no handler, no cleanup, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


class Fuse:
    """Counts the calls through every seam it is given to, and blows at one of them.

    :param at: which call, from 1; 0 never.
    """

    def __init__(self, at: int, when: str = BEFORE, blow: Callable[[], None] = die) -> None:
        self._left = at
        self._when = when
        self._blow = blow

    def before(self) -> None:
        if self._when == BEFORE:
            self._burn()

    def after(self, *, changes: bool) -> None:
        if self._when == AFTER and changes:
            self._burn()

    def blows_halfway(self) -> bool:
        """Whether the write that is about to be made shall be cut; the caller writes the half, then calls `blow`."""
        if self._when != HALFWAY:
            return False
        self._left -= 1
        return self._left == 0

    def blow(self) -> None:
        self._blow()

    def _burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._blow()


class _FusedMapping(mmap.mmap):
    """A mapping whose `write` goes through a fuse."""

    fuse: Fuse

    def write(self, data: Any, /) -> int:
        self.fuse.before()
        if self.tell() + len(data) <= len(self) and self.fuse.blows_halfway():
            super().write(data[: len(data) // 2])
            self.fuse.blow()
        written = super().write(data)
        self.fuse.after(changes=True)
        return written


class FusedFiles(Files):
    """The file system behind a fuse: every method of `Files`, also those that it gets in future."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def map(self, fd: int, size: int) -> Mapping:
        mapping = _FusedMapping(fd, size)
        mapping.fuse = self._fuse
        return mapping

    def write(self, fd: int, data: bytes, offset: int) -> int:
        self._fuse.before()
        if self._fuse.blows_halfway():
            super().write(fd, data[: len(data) // 2], offset)
            self._fuse.blow()
        written = super().write(fd, data, offset)
        self._fuse.after(changes=True)
        return written


def _fused(name: str) -> Callable[..., Any]:
    plain = getattr(Files, name)

    def call(self: FusedFiles, *arguments: Any, **named: Any) -> Any:
        self._fuse.before()
        result = plain(self, *arguments, **named)
        self._fuse.after(changes=name not in _LOOKS)
        return result

    return call


#: Made or not made as the bell of a live writer has it: counted, the n-th call would be another one each time. It
#: changes nothing, and what comes before and after it is counted.
_UNCOUNTED: Final = frozenset({"is_deleted"})

for _name in vars(Files):
    if not _name.startswith("_") and _name not in vars(FusedFiles) and _name not in _UNCOUNTED:
        setattr(FusedFiles, _name, _fused(_name))


class _FusedConnection:
    """A connection whose `execute` and `executemany` go through a fuse; everything else is the connection's own."""

    def __init__(self, connection: sqlite3.Connection, fuse: Fuse) -> None:
        self._connection = connection
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self._fuse.before()
        cursor = self._connection.execute(statement, *arguments)
        self._fuse.after(changes=not statement.lstrip().startswith(_ASKS))
        return cursor

    def executemany(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
        self._fuse.before()
        cursor = self._connection.executemany(statement, *arguments)
        self._fuse.after(changes=True)
        return cursor


def fused_connect(fuse: Fuse) -> Callable[[Path], Any]:
    """What to give a writer as ``connect``."""
    return lambda path: _FusedConnection(open_database(path), fuse)
