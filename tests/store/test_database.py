"""The database file: its schema, its modes, and what happens to one that is damaged, newer, or out of reach."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from hush_core.errors import SchemaTooNewError, StoreError
from hush_core.store import database
from hush_core.store.database import is_damage, migrate, migrations, open_database, set_aside_damaged
from hush_core.store.opening import open_store
from hush_core.store.sqlite import SqliteStore
from tests.store.conftest import StoreUnderTest, node, read_only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "traces.db"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_database(path)) as connection:
        yield connection


def schema(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# -- schema -----------------------------------------------------------------------------------------------------------


def test_the_schema_is_the_sum_of_the_migrations(path: Path) -> None:
    with opened(path) as connection, contextlib.closing(sqlite3.connect(":memory:")) as other:
        for step in migrations():
            other.executescript(step)
        # Reading the schema of a database with a view parses it: so this also says that the views can be read.
        assert schema(connection) == schema(other)
        assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)


def test_every_version_before_this_one_is_brought_up_to_date(path: Path) -> None:
    with opened(path) as connection:
        newest = schema(connection)
    for version in range(len(migrations())):
        older = path.with_name(f"version-{version}.db")
        with contextlib.closing(sqlite3.connect(older)) as connection:
            for step in migrations()[:version]:
                connection.executescript(step)
            connection.execute(f"PRAGMA user_version = {version}")
        with opened(older) as connection:
            assert schema(connection) == newest


def test_every_view_can_be_read(path: Path) -> None:
    with opened(path) as connection:
        views = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'view'")]
        assert views
        for view in views:
            assert connection.execute(f"SELECT * FROM {view}").fetchall() == []


def test_opening_again_changes_nothing(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("INSERT INTO total VALUES ('x', 1)")
    with opened(path) as connection:
        assert connection.execute("SELECT * FROM total").fetchall() == [("x", 1)]


def test_a_migration_that_fails_leaves_the_version_and_the_schema_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [*migrations(), "CREATE TABLE further (x);\nCREATE TABLE request (already_there);"]
    monkeypatch.setattr(database, "migrations", lambda: steps)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="already exists"):
            migrate(connection, path)
        assert not connection.in_transaction
        assert connection.execute("PRAGMA user_version").fetchone() == (len(steps) - 1,)
        assert ("further",) not in connection.execute("SELECT name FROM sqlite_schema").fetchall()


def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    with opened(path) as connection:
        connection.execute("CREATE TABLE from_the_future (x)")
        connection.execute("PRAGMA user_version = 99")
    content = path.read_bytes()
    with pytest.raises(SchemaTooNewError, match=r"has schema 99; this hush knows up to \d+.*upgrade hush-core"):
        open_database(path)
    assert path.read_bytes() == content


# -- the file ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_file_is_its_owners_alone_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(path) as connection:
            connection.execute("INSERT INTO total VALUES ('x', 1)")
            assert {entry.name: mode(entry) for entry in path.parent.rglob("*")} == {
                "traces.db": 0o600,
                "traces.db-wal": 0o600,
                "traces.db-shm": 0o600,
                "traces.db.journal": 0o700,
                "made-by-hush": 0o600,
            }
    finally:
        os.umask(before)
    assert (mode(path.parent), mode(path.parent.parent)) == (0o700, 0o700)


def test_it_is_kept_as_the_writer_needs_it(path: Path) -> None:
    with opened(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental


def test_a_reader_can_open_it_while_the_writer_has_it(path: Path) -> None:
    with opened(path) as connection, contextlib.closing(read_only(path)) as reader:
        connection.execute("INSERT INTO total VALUES ('x', 1)")
        assert reader.execute("SELECT * FROM total").fetchall() == [("x", 1)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM total")


@pytest.mark.skipif(os.getuid() == 0, reason="nothing is out of reach for root")
def test_a_file_that_may_not_be_written_is_named(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o400)
    with pytest.raises(StoreError, match=f"{path} cannot be opened for writing: Permission denied"):
        open_database(path)


def test_a_folder_in_its_place_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match=f"{path} cannot be opened for writing: Is a directory"):
        open_database(path)


def test_a_file_in_the_place_of_its_folder_is_named(path: Path) -> None:
    path.parent.parent.mkdir()
    path.parent.touch()
    with pytest.raises(StoreError, match=str(path)):
        open_database(path)


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_database_that_is_none_any_more_is_kept_and_a_new_one_begun(path: Path, content: bytes) -> None:
    open_database(path).close()
    path.write_bytes(content)
    said: list[str] = []
    store = open_store(path, connect=open_database, log=said.append)
    assert store.journals() == {}
    store.close()
    (kept,) = path.parent.glob("traces.db.damaged-*")
    assert kept.read_bytes() == content
    assert len(said) == 1
    assert kept.name in said[0]


@pytest.mark.parametrize("content", [b"notes of mine", b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_file_that_is_not_hushs_is_refused_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="not a database of hush's"):
        open_store(path, connect=open_database, log=pytest.fail)
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("version", [0, 1])
def test_a_database_of_somebody_elses_is_refused_and_left_as_it_is(path: Path, version: int) -> None:
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"CREATE TABLE users (name); PRAGMA user_version = {version};")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a database of hush's"):
        open_store(path, connect=open_database, log=pytest.fail)
    assert path.read_bytes() == before


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    with opened(path) as connection:
        assert connection.execute("SELECT count(*) FROM request").fetchone() == (0,)
    assert list(path.parent.glob("*damaged*")) == []


def test_damage_behind_the_first_page_is_noticed_as_damage(path: Path) -> None:
    with opened(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'node'").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xa5" * page_bytes)
    with pytest.raises(sqlite3.DatabaseError) as noticed:
        SqliteStore(path)
    assert is_damage(noticed.value)


def test_a_damaged_database_is_kept_with_its_log(path: Path) -> None:
    path.parent.mkdir(parents=True)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).write_text(f"the file{suffix}")
    kept = set_aside_damaged(path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [kept.name, f"{kept.name}-shm", f"{kept.name}-wal"]
    assert kept.with_name(f"{kept.name}-wal").read_text() == "the file-wal"


def test_a_database_damaged_twice_in_a_second_is_kept_twice(path: Path) -> None:
    path.parent.mkdir(parents=True)
    kept = set()
    for number in range(3):
        path.write_text(f"damaged {number}")
        kept.add(set_aside_damaged(path))
    assert sorted(each.read_text() for each in kept) == ["damaged 0", "damaged 1", "damaged 2"]


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (sqlite3.DatabaseError("database disk image is malformed"), True),
        (sqlite3.DatabaseError("file is not a database"), True),
        (sqlite3.OperationalError("no such column: span"), True),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'tags'"), True),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), True),
        (msgspec.DecodeError("JSON is malformed"), True),
        (sqlite3.OperationalError("disk I/O error"), False),
        (sqlite3.OperationalError("database is locked"), False),
        (sqlite3.OperationalError("database or disk is full"), False),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), False),
    ],
)
def test_only_wrong_content_is_damage(problem: Exception, expected: bool) -> None:
    assert is_damage(problem) is expected


def test_what_was_stored_survives_the_death_of_the_writer(stored: StoreUnderTest) -> None:
    """No close, no checkpoint: a copy of the files as they are at an instant is what the next process finds."""
    stored.put(node())
    copy = stored.path.with_name("copy.db")
    for suffix in ("", "-wal"):
        copy.with_name(copy.name + suffix).write_bytes(stored.path.with_name(stored.path.name + suffix).read_bytes())
    with opened(copy) as connection:
        assert connection.execute("SELECT count(*) FROM node").fetchone() == (1,)
