"""A connection that only reads, and says clearly why it cannot."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from hush_core.errors import SchemaTooNewError, StoreError
from hush_core.store.database import STORE_ERRORS, is_damage, migrations

#: How long a read waits for a lock. In WAL mode that is only while the writer makes or recovers the log: two syncs.
_BUSY_TIMEOUT_S: Final = 5.0


def open_reader(db_path: Path | str) -> sqlite3.Connection:
    """Open the database for reading alone. Creates no database, writes and checkpoints nothing.

    Every statement is a transaction of its own: fetch all of it at once, so that the writer's log is not held. The
    connection belongs to the thread that opened it. Raises StoreError when there is no such database, when it cannot be
    read or is not one of hush's; SchemaTooNewError when a newer hush wrote it.
    """
    path = Path(db_path)
    status = file_status(path)
    if status is None:
        raise StoreError(
            f"There is no database {path}: nothing has been recorded there yet. Run a workflow first (`hush demo` has "
            "one), or say where the database is with --db or HUSH_TRACES_DB."
        )
    if stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{path} is a folder, not a database. Name the file in it, for example {path / 'traces.db'}.")
    if not path.is_file():
        raise StoreError(f"{path} is neither a file nor a folder: it cannot be a database. Name another with --db.")
    with explained(path):
        connection = _connect(path)
        try:
            _check_schema(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def file_status(path: Path) -> os.stat_result | None:
    """What the system says of a database file; None if there is none. Raises StoreError if that cannot be told."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise StoreError(
            f"The database {path} cannot be reached: {problem.strerror}. Let this user into its folder, or name "
            "another file with --db or HUSH_TRACES_DB."
        ) from problem


class EmptyDatabaseError(StoreError):
    """The file has no table yet: a writer is making it this instant, or died while it did."""


class OlderSchemaError(StoreError):
    """The database was written by an older hush, and no writer of this one has opened it yet."""


@contextmanager
def reading(db_path: Path | str) -> Iterator[sqlite3.Connection]:
    """A reader for the length of a `with`. What SQLite finds wrong meanwhile is a StoreError that says what to do."""
    with closing(open_reader(db_path)) as connection, explained(db_path):
        yield connection


@contextmanager
def explained(db_path: Path | str) -> Iterator[None]:
    """Turn what SQLite finds wrong while a database is read into a StoreError that says what to do."""
    try:
        yield
    except STORE_ERRORS as problem:
        raise _unreadable(Path(db_path), problem) from problem
    except (OverflowError, UnicodeEncodeError) as problem:
        raise StoreError(
            f"No request can meet these conditions: {problem}. Check the times and names asked for."
        ) from problem


def _connect(path: Path) -> sqlite3.Connection:
    # What has a meaning in a URI is written as its code; everything else, any character of any language, stays.
    quoted = str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    known = len(migrations())
    # The version last: a writer that makes the tables this instant sets it together with them.
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if not tables:
        raise EmptyDatabaseError(f"The database {path} is empty: nothing has been stored in it yet.")
    if not {"request", "node"} <= tables:
        raise StoreError(
            f"{path} holds no traces: it is an SQLite database, but not one of hush's. "
            "Name another file with --db or HUSH_TRACES_DB."
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise SchemaTooNewError(
            f"The database {path} has schema {version}; this hush reads up to {known}. A newer hush wrote it: "
            "upgrade hush-core in this environment, or use the newer one's `hush`."
        )
    if version < known:
        raise OlderSchemaError(
            f"The database {path} has the older schema {version}; this hush reads {known}. Its writer brings it up to "
            f"date when it starts: run `hush doctor --db {path}`, which starts one."
        )


def _unreadable(path: Path, problem: Exception) -> StoreError:
    if not os.access(path, os.R_OK):
        return StoreError(f"The database {path} may not be read by this user. Its mode is 0600: only its owner may.")
    if "not a database" in str(problem):
        return StoreError(f"{path} is not an SQLite database. Name another file with --db or HUSH_TRACES_DB.")
    if is_damage(problem):
        return StoreError(
            f"The database {path} is damaged ({problem}). The next record that is stored makes the writer keep it "
            f"beside as {path.name}.damaged-... and begin a new one; nothing of it is deleted."
        )
    if "unable to open" in str(problem):
        return StoreError(
            f"The database {path} cannot be opened ({problem}). SQLite keeps {path.name}-wal and {path.name}-shm "
            "beside it: this user must be able to read them, or to write to the folder while no writer has them open."
        )
    return StoreError(f"The database {path} cannot be read: {problem}.")
