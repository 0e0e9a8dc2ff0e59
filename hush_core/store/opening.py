"""The writer opens its store: what is damaged is set aside, and what cannot be used is said in one kind of error."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from hush_core.errors import StoreError
from hush_core.store.database import STORE_ERRORS, is_damage, set_aside_damaged
from hush_core.store.sqlite import SqliteStore


def open_store(path: Path, *, connect: Callable[[Path], sqlite3.Connection], log: Callable[[str], None]) -> SqliteStore:
    """Open a database, or begin a new one beside a damaged one, which is kept. Raises StoreError if neither can be."""
    try:
        try:
            return SqliteStore(path, connect=connect)
        except STORE_ERRORS as problem:
            if not is_damage(problem):
                raise
            begin_anew(path, problem, log=log)
            return SqliteStore(path, connect=connect)
    except (*STORE_ERRORS, OSError) as problem:
        raise StoreError(
            f"The database {path} cannot be used: {problem}. Recording goes on in {path}.journal; when the cause is "
            "gone, what is there will be stored."
        ) from problem


def begin_anew(path: Path, problem: Exception, *, log: Callable[[str], None]) -> None:
    """Set a damaged database aside. Nothing of it is deleted."""
    kept = set_aside_damaged(path)
    log(f"the database is damaged ({problem}); it is kept as {kept.name}, and a new one begun")
