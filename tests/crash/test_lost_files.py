"""Somebody deletes files under a live app and its writer: both go on, and what was recorded since is stored once."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from waiting import wait_until

from hush_core.background import supervisor
from hush_core.background.supervisor import control, get_background, journal_directory
from hush_core.cli.examination import examine
from hush_core.model import NODE

from ..conftest import end_writers, writers_under
from .children import Acknowledgements, Child
from .history import Record, check_whole, text_of

_SIZE = 500
#: So many records fill more than one segment: the first is given up.
_FIRST = 600


def record_for_ever(database: Path, said: Acknowledgements) -> None:
    """The app: record, look after the writer as completing a request does, and say what has been recorded."""
    background = get_background(database)
    for number in count():
        fields = {"node_name": "n", "execution_order": number, "input_data": text_of(number, _SIZE)}
        background.append(Record(NODE, "r", fields).payload)
        background.secure()
        said.say(number)
        time.sleep(0.002)


def numbers_in(database: Path) -> list[int]:
    """The records that are stored, each of which must be whole."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "SELECT execution_order, input_data FROM node JOIN node_payload ON node_payload.node = node.id"
            ).fetchall()
    except sqlite3.OperationalError:  # just now there is none
        return []
    for number, text in rows:
        assert json.loads(text) == text_of(number, _SIZE)
    return sorted(number for number, _ in rows)


def copy(database: Path, path: Path) -> None:
    """A copy as a backup makes it."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source, closing(sqlite3.connect(path)) as to:
        source.backup(to)
    path.chmod(0o600)


def delete_the_journals(database: Path) -> None:
    # Away first: a writer that is at work makes files in it as fast as they are deleted.
    away = database.with_name("deleted")
    journal_directory(database).rename(away)
    shutil.rmtree(away)


def delete_the_segments(database: Path) -> None:
    for path in journal_directory(database).glob("*.segment"):
        path.unlink()


def delete_the_database(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def delete_the_file_of_the_database(database: Path) -> None:
    database.unlink()


def delete_everything(database: Path) -> None:
    delete_the_database(database)
    delete_the_journals(database)


def move_the_database_away(database: Path) -> None:
    os.rename(database, f"{database}.moved")


def put_an_old_copy_back(database: Path) -> None:
    shutil.copy(f"{database}.old", f"{database}.new")
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    os.replace(f"{database}.new", database)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[[Path, Acknowledgements], Child]]:
    children: list[Child] = []

    def start(database: Path, said: Acknowledgements) -> Child:
        children.append(Child(partial(record_for_ever, database, said), tmp_path / "errors"))
        return children[-1]

    yield start
    for child in children:
        if not child.is_over():
            child.kill()


@pytest.mark.parametrize(
    "delete",
    [
        delete_the_journals, delete_the_segments, delete_the_database, delete_the_file_of_the_database,
        delete_everything, move_the_database_away, put_an_old_copy_back,
    ],
)  # fmt: skip
def test_an_app_whose_files_are_deleted_goes_on_and_what_it_records_is_stored_once(
    tmp_path: Path, app: Callable[[Path, Acknowledgements], Child], delete: Callable[[Path], None]
) -> None:
    database = tmp_path / "traces.db"
    with Acknowledgements() as said:
        child = app(database, said)
        said.wait_for(_FIRST)
        wait_until(lambda: _FIRST in numbers_in(database), "the first records to be stored")
        copy(database, Path(f"{database}.old"))
        delete(database)
        # What was recorded within a second or two of the deletion may be in what was deleted. Nothing later is.
        lost_until = said.listen()[-1] + 700
        said.wait_for(lost_until + 100)
        # While the app is there, and its journal.
        wait_until(lambda: not examine(database).problems, "doctor to find nothing wrong")
        child.kill()
        last = said.listen()[-1]
    assert control(database, {"verb": "drain", "timeout_s": 30}, timeout=40)["drained"]
    numbers = numbers_in(database)
    assert len(numbers) == len(set(numbers)), "stored twice"
    assert set(range(lost_until, last + 1)) <= set(numbers), "lost"
    assert max(numbers) <= last + 1, "invented"
    check_whole(database)
    assert control(database, {"verb": "status"})["problem"] is None


def test_the_first_record_after_the_journals_were_deleted_is_stored_though_the_writer_has_ended(tmp_path: Path) -> None:
    database = tmp_path / "traces.db"
    background = get_background(database)

    def record(number: int) -> None:
        fields = {"node_name": "n", "execution_order": number, "input_data": text_of(number, _SIZE)}
        background.append(Record(NODE, "r", fields).payload)

    for number in range(3):
        record(number)
    assert background.sync(30)
    delete_the_journals(database)
    wait_until(lambda: not writers_under(tmp_path), "the writer to notice it, and to end")
    record(3)  # the app was idle meanwhile
    assert background.sync(30)
    assert numbers_in(database) == [0, 1, 2, 3]
    assert background.dropped == {}


@pytest.mark.parametrize("delete", [delete_the_journals, delete_everything])
def test_what_nobody_had_stored_when_the_journals_were_deleted_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delete: Callable[[Path], None]
) -> None:
    database = tmp_path / "traces.db"
    background = get_background(database)

    def record(number: int) -> None:
        fields = {"node_name": "n", "execution_order": number, "input_data": text_of(number, _SIZE)}
        background.append(Record(NODE, "r", fields).payload)

    record(0)
    assert background.sync(30)
    with monkeypatch.context() as nobody:
        nobody.setattr(supervisor, "start_writer", lambda *_, **__: 1)
        wait_until(lambda: not end_writers(tmp_path), "the writer to be killed")
        for number in range(1, 200):
            record(number)
        delete(database)
    assert background.sync(30)  # nothing is recorded any more
    assert [number for number in numbers_in(database) if number > 0] == list(range(1, 200))
    wait_until(lambda: not examine(database).problems, "doctor to find nothing wrong")
