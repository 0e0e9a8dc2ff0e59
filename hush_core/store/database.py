"""The database file: how the writer opens it, brings its schema up to date, and puts a damaged one aside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path
from typing import Final

import msgspec

from hush_core.errors import SchemaTooNewError, StoreError
from hush_core.system import FILES

#: Pages of write-ahead log before SQLite copies them into the database: 16 MB, so that a burst pays for few copies.
_CHECKPOINT_PAGES: Final = 2000
#: What the first migration writes into the header of the file: "hush" in ASCII.
_APPLICATION_ID: Final = int.from_bytes(b"hush", "big")
#: The first with RETURNING (March 2021).
_SQLITE_MIN: Final = (3, 35, 0)


def migrations() -> list[str]:
    """The SQL of each migration, in order: the n-th brings a schema of version n - 1 to version n."""
    folder = Path(__file__).parent / "migrations"  # importlib.resources takes longer to import than to run a command
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [(folder / name).read_text(encoding="utf-8") for name in names]


def open_database(path: Path) -> sqlite3.Connection:
    """The writer's connection: the only one that writes or checkpoints. Creates the file (mode 0600) if there is none.

    Raises SchemaTooNewError for the database of a newer hush, StoreError when it cannot be opened or made, and
    others of STORE_ERRORS when it is damaged: `hush_core.store.opening` then begins a new one.
    """
    try:
        return _open(path)
    except STORE_ERRORS as problem:
        if is_damage(problem):
            raise
        raise StoreError(
            f"The database {path} cannot be opened: {problem}. Recording goes on in {path}.journal; "
            "make the path writable, and what is there will be stored."
        ) from problem


#: What SQLite says of wrong content. The last four: since the schema has the right version, its text is damaged.
_WRONG_CONTENT: Final = (
    "malformed",
    "not a database",
    "Could not decode to UTF-8",
    "no such table",
    "no such column",
    "has no column named",
    "ON CONFLICT clause does not match",
)
#: What using a database may raise. The last two come from damage that SQLite does not see: sound pages, wrong content.
STORE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError, msgspec.DecodeError)


def is_damage(problem: Exception) -> bool:
    """Whether one of STORE_ERRORS says that the file's content is wrong, rather than that the disk or the access is."""
    if isinstance(problem, (UnicodeDecodeError, msgspec.DecodeError)):
        return True
    words = str(problem)
    return isinstance(problem, sqlite3.DatabaseError) and any(wrong in words for wrong in _WRONG_CONTENT)


def has_damage(connection: sqlite3.Connection) -> bool:
    """Look for damage in the whole file. Takes long in a large one."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except STORE_ERRORS as problem:
        return is_damage(problem)


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError for a file with content that hush has not made, and leave it as it is.

    A database of hush's says so by its application id; where it is damaged, the mark beside the journals says it.
    """
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        is_foreign = bool(tables) and application != _APPLICATION_ID
    except STORE_ERRORS as problem:
        if not is_damage(problem) or _mark(path).exists():
            raise
        is_foreign = True
    if is_foreign and not _mark(path).exists():
        raise StoreError(
            f"{path} is not a database of hush's, and is left as it is. Name another file with HUSH_TRACES_DB. "
            f"Recording goes on in {path}.journal meanwhile."
        )


def _mark(path: Path) -> Path:
    """Made when hush has made the database: whatever becomes of its content, the file is hush's."""
    return Path(f"{path}.journal", "made-by-hush")


def set_aside_damaged(path: Path) -> Path:
    """Rename a damaged database and its log; nothing of it is deleted. Returns its new path."""
    name = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    number = 1
    while (kept := path.with_name(f"{name}-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm", ""):
        try:
            os.rename(f"{path}{suffix}", f"{kept}{suffix}")
        except FileNotFoundError:
            continue
    return kept


def _open(path: Path) -> sqlite3.Connection:
    if sqlite3.sqlite_version_info < _SQLITE_MIN:
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}; hush needs {'.'.join(map(str, _SQLITE_MIN))} or later. "
            "Use a newer Python build. Recording goes on in the journal meanwhile."
        )
    try:
        FILES.make_directory(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as problem:
        raise StoreError(f"The database {path} cannot be opened for writing: {problem.strerror}.") from problem
    connection = sqlite3.connect(
        path, isolation_level=None, timeout=10.0, cached_statements=256, check_same_thread=False
    )
    try:
        _refuse_foreign(connection, path)
        _refuse_newer(connection, path)
        # Only effective before the first table. Pages of 8 KB hold three records of an LLM call where 4 KB hold one and
        # waste the rest; larger ones make the many small commits of a slow app dear.
        connection.execute("PRAGMA page_size = 8192")
        # Only effective before the first table, too: lets pruning give pages back without rewriting the whole file.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL: a commit needs no fsync, because the journals still hold what a power cut would take back.
        # `SqliteStore.put(durable=True)` uses FULL before a journal segment is given up.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -8000")
        migrate(connection, path)
        with contextlib.suppress(OSError):  # a full disk: the database says it too
            FILES.make_directory(_mark(path).parent)
            _mark(path).touch(mode=0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, each migration and its version number in one transaction.

    Raises SchemaTooNewError if the schema is newer than this hush knows.
    """
    steps = migrations()
    version = _refuse_newer(connection, path)
    for number in range(version, len(steps)):
        # Not executescript: it commits first, and leaves a failed BEGIN open.
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(steps[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _refuse_newer(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema. Raises SchemaTooNewError, with nothing changed, if this hush does not know it."""
    known = len(migrations())
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > known:
        raise SchemaTooNewError(
            f"The database {path} has schema {version}; this hush knows up to {known}. A newer hush wrote it: "
            "upgrade hush-core in this environment, or set HUSH_TRACES_DB to another file."
        )
    return int(version)


def _statements(script: str) -> list[str]:
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
