"""The database of a newer hush is refused, not touched; what is recorded meanwhile waits in the journals."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path

from waiting import wait_until

from hush_core.background.supervisor import control, get_background, journal_directory

from .children import Acknowledgements, Child, drain, open_journal
from .history import Record, check_whole, expected, history, stored

OLD, NEW = history(3, name="old"), history(6, name="new")


def record(database: Path, records: list[Record]) -> None:
    journal = open_journal(database)
    for each in records:
        journal.append(each.payload)


def record_and_look_after_the_writer(database: Path, said: Acknowledgements) -> None:
    """An app that records, and goes on being busy for some seconds."""
    background = get_background(database)
    for each in NEW:
        background.append(each.payload)
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        background.secure()  # as completing a request does
        time.sleep(0.005)
    said.say(len(NEW))


def set_schema(database: Path, version: int) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


def test_a_newer_schema_is_refused_once_and_again_not_at_every_turn_and_the_journals_wait_for_it(
    tmp_path: Path,
) -> None:
    database = tmp_path / "traces.db"
    log = journal_directory(database) / "writer.log"
    Child(partial(record, database, OLD), tmp_path / "errors").wait()
    drain(database)
    set_schema(database, 99)
    before = database.read_bytes()
    with Acknowledgements() as said:
        Child(partial(record_and_look_after_the_writer, database, said), tmp_path / "errors").wait()
        assert said.listen() == [len(NEW)]
    wait_until(lambda: log.exists() and "has schema 99" in log.read_text(), "a writer to refuse it")
    refusals = [line for line in log.read_text().splitlines() if "has schema 99" in line]
    assert all("upgrade hush-core" in line for line in refusals)
    assert 1 <= len(refusals) <= 6, "a writer was started again and again"
    assert database.read_bytes() == before
    assert sorted(journal_directory(database).glob("*.segment"))
    set_schema(database, 1)
    assert control(database, {"verb": "drain", "timeout_s": 30}, timeout=40)["drained"]
    assert stored(database) == expected([*OLD, *NEW])
    check_whole(database)
