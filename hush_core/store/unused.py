"""Drops what nothing uses any more: secrets that are not sealed so now, older configurations of tracers, old origins.

What may be needed is kept. A secret goes when its last use was a day ago or more, and no tracer, no running request, no
journal and no record that was set aside refers to it; while a damaged database lies beside this one, none goes. Should
one be needed after all, the app that has it writes it again with its next request. Of the tracers of a name the newest
stays, and gets the totals of those that go. The newest origin stays too: so no row's number is ever given again.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hush_core.journal.format import SET_ASIDE
from hush_core.model import INTERRUPTED, RUNNING
from hush_core.secret import UNUSED_KEPT_S, sealed_in, secrets_folder
from hush_core.store.sqlite import SqliteStore

_CHUNK_BYTES: Final = 1024 * 1024
#: Longer than any reference to a secret: two chunks that overlap by this much hide none between them.
_OVERLAP: Final = 64
_SECRET_FILE: Final = re.compile(r"[0-9a-f]{32}|.*\.new")  # the latter: left by an app that died while it wrote

_OLDER_TRACERS: Final = """
SELECT id, (SELECT max(id) FROM tracer newer WHERE newer.tracer_name = tracer.tracer_name) AS newest FROM tracer
WHERE id < newest AND max(coalesce(last_sent_ns, 0), coalesce(last_error_ns, 0)) < ?"""
_OLDER_ORIGINS: Final = """
SELECT id FROM origin WHERE id < (SELECT max(id) FROM origin)
    AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.origin = origin.id)"""
_ADD_TOTALS: Final = """
UPDATE tracer SET (sent, failed, skipped) =
    (SELECT tracer.sent + old.sent, tracer.failed + old.failed, tracer.skipped + old.skipped
     FROM tracer old WHERE old.id = ?) WHERE id = ?"""
_REFERRING: Final = f"""
SELECT tracer_config FROM tracer
UNION SELECT tracers FROM request WHERE status IN ('{RUNNING}', '{INTERRUPTED}') AND tracers IS NOT NULL"""


def drop_unused(store: SqliteStore, idle_s: float) -> Iterator[None]:
    """Drop it, a little at each step; what records come between two steps is taken into account.

    :param idle_s: how long a tracer had nothing to do that goes.
    """
    _drop_rows(store, time.time_ns() - int(idle_s * 1e9))
    yield from _drop_secrets(store)


def _drop_rows(store: SqliteStore, idle_since_ns: int) -> None:
    """Drop older configurations and origins that no delivery is of."""
    connection = store.connection
    tracers = connection.execute(_OLDER_TRACERS, (idle_since_ns,)).fetchall()
    origins = {origin for (origin,) in connection.execute(_OLDER_ORIGINS)} - store.remembered_origins()
    if not tracers and not origins:
        return
    used = connection.execute("SELECT DISTINCT tracer, origin FROM delivery").fetchall()  # 0.1 s a million
    used_tracers = {tracer for tracer, _ in used}
    tracers = [row for row in tracers if row[0] not in used_tracers]
    origins -= {origin for _, origin in used}
    if not tracers and not origins:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany(_ADD_TOTALS, tracers)
        connection.executemany("DELETE FROM tracer WHERE id = ?", [row[:1] for row in tracers])
        connection.executemany("DELETE FROM origin WHERE id = ?", [(origin,) for origin in origins])
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    store.after_deletion()


def _drop_secrets(store: SqliteStore) -> Iterator[None]:
    """Drop the files of secrets that nothing refers to."""
    folder = secrets_folder(store.path)
    unused = _old_files(folder) - _referred_to(store)
    if not unused or any(name.startswith(f"{store.path.name}.damaged-") for name in os.listdir(store.path.parent)):
        return
    # First what waits to be stored, then, once more, what is: a record is in one or the other at any time.
    try:
        for path in [*folder.parent.glob("*.segment"), *Path(folder.parent, SET_ASIDE).glob("*")]:
            for found in _references_in(path):
                unused -= found
                yield
    except OSError:  # what cannot be read may refer to any of them
        return
    for name in unused & _old_files(folder) - _referred_to(store):
        with suppress(OSError):
            os.unlink(folder / name)


def _old_files(folder: Path) -> set[str]:
    """The files of secrets, but the key, that were not used for a day."""
    before = time.time() - UNUSED_KEPT_S
    found = set()
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _SECRET_FILE.fullmatch(entry.name) and entry.stat().st_mtime < before:
                found.add(entry.name)
    return found


def _referred_to(store: SqliteStore) -> set[str]:
    return {name for (text,) in store.connection.execute(_REFERRING) for name in sealed_in(text)}


def _references_in(path: Path) -> Iterator[set[str]]:
    """The secrets that a file of records refers to, a chunk at a time. Records are not encoded further."""
    try:
        with path.open("rb") as file:
            before = b""
            while chunk := file.read(_CHUNK_BYTES):
                yield sealed_in((before + chunk).decode("latin-1"))
                before = chunk[-_OVERLAP:]
    except FileNotFoundError:  # a segment that is stored since
        return
