"""The account: two independent counts of the same records, of live, dead, forgotten and damaged journals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest
from waiting import wait_until

from hush_core import get_store
from hush_core.background.supervisor import control, get_background, journal_directory
from hush_core.store.account import Account, take_account
from hush_core.store.database import open_database


def account_of(path: Path) -> Account:
    return take_account(path, journal_directory(path))[0]


def record(count: int) -> None:
    store = get_store()
    for number in range(count):
        store.insert_node_trace("r", "w", f"n{number}", None, None, number, None, None, None, None, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


def test_nothing_recorded_is_nothing_accepted(path: Path) -> None:
    account = account_of(path)
    assert (account.accepted, account.journals, account.adds_up) == (0, [], True)


def test_what_is_stored_is_accepted(path: Path) -> None:
    record(100)
    assert get_store().sync(30)
    account = account_of(path)
    assert (account.accepted, account.stored, account.in_journal) == (100, 100, 0)
    assert account.adds_up
    [journal] = account.journals
    assert (journal.pid, journal.alive, journal.numbered) == (os.getpid(), True, 100)


def test_what_no_writer_has_stored_is_in_the_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hush_core.background.supervisor.start_writer", lambda *_, **__: os.getpid())
    record(100)
    account = account_of(path)
    assert (account.accepted, account.stored, account.in_journal) == (100, 0, 100)
    assert account.adds_up


def test_counts_add_up_at_any_moment_of_a_busy_process(path: Path) -> None:
    script = textwrap.dedent(
        """
        import time
        from hush_core import get_store
        store = get_store()
        while True:
            for _ in range(20):
                store.insert_node_trace("r", "w", "n", None, None, 0, None, None, None, {"x": "y" * 100}, None)
            time.sleep(0.004)  # or it would fill the disk faster than anything can read
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(path.exists, "the database")
        accepted = 0
        for _ in range(15):
            account = account_of(path)
            assert account.adds_up, account
            assert account.accepted >= accepted
            accepted = account.accepted
    finally:
        process.kill()
        process.wait()
    control(path, {"verb": "drain", "timeout_s": 60.0}, 60.0)
    wait_until(lambda: not account_of(path).journals, "the dead process's journal to be forgotten", 30)
    account = account_of(path)
    assert account.adds_up
    assert (account.in_journal, account.accepted) == (0, account.stored)
    assert account.stored >= accepted


def test_dropped_records_are_counted_by_their_reason(path: Path) -> None:
    record(10)
    background = get_background()
    background.drop("encoding failed")
    record(5)
    background.drop("disk full")
    background.drop("disk full")
    assert get_store().sync(30)
    account = account_of(path)
    assert account.dropped == {"encoding failed": 1, "disk full": 2}
    assert (account.accepted, account.stored) == (18, 15)
    assert account.adds_up


def test_a_row_that_was_not_written_does_not_add_up(path: Path) -> None:
    record(10)
    assert get_store().sync(30)
    writer = control(path, {"verb": "status"})["pid"]
    os.kill(writer, signal.SIGSTOP)  # or it would write its own count over this one
    try:
        connection = open_database(path)
        connection.execute("UPDATE journal SET stored = stored - 3")
        connection.close()
        account = account_of(path)
    finally:
        os.kill(writer, signal.SIGCONT)
    assert not account.adds_up
    assert [journal.difference for journal in account.journals] == [-3]


def test_a_record_that_is_there_twice_does_not_add_up(path: Path) -> None:
    record(10)
    assert get_store().sync(30)
    connection = open_database(path)
    connection.execute("UPDATE journal SET stored = stored + 1")
    connection.close()
    assert [journal.difference for journal in account_of(path).journals] == [1]


LARGE: Final = {"text": "x" * 30_000}


def record_large(count: int) -> None:
    """Enough for a few segments: those that are stored are given up."""
    store = get_store()
    for number in range(count):
        store.insert_node_trace("r", "w", f"n{number}", None, None, number, None, None, None, LARGE, None)


def first_segment(path: Path) -> int:
    return min(int(name.stem.partition("-")[2]) for name in journal_directory(path).glob("*.segment"))


def test_after_the_database_is_deleted_the_account_counts_from_what_the_journal_still_holds(path: Path) -> None:
    record_large(60)
    assert get_store().sync(30)
    wait_until(lambda: first_segment(path) > 0, "the first segments to be given up")
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    record_large(5)
    wait_until(path.exists, "a new database")
    record_large(5)
    wait_until(lambda: not account_of(path).in_journal, "all to be stored")
    account = account_of(path)
    assert account.adds_up, account
    assert 10 <= account.stored < 70
    assert account.stored == account.accepted


def test_segments_that_no_database_knows_are_counted_from_the_first_that_is_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hush_core.background.supervisor.start_writer", lambda *_, **__: os.getpid())
    record_large(60)
    sorted(journal_directory(path).glob("*.segment"))[0].unlink()
    account = account_of(path)
    assert account.adds_up, account
    assert 0 < account.in_journal == account.accepted < 60
