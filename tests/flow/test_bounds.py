"""The writer keeps the database within its bounds, by the settings of the app that started it, also under load."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from trace_database import TraceDatabase
from waiting import wait_until

from hush_core import get_store
from hush_core.background.election import elect
from hush_core.background.supervisor import get_background, journal_directory
from hush_core.background.writer import Writer
from hush_core.store import retention
from hush_core.store.retention import Retention
from hush_core.system import FILES

from .app import App

DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    new = App(tmp_path)
    yield new
    new.kill()


def request_ids(database: Path) -> set[str]:
    return {request.request_id for request in get_store(database).iter_requests()}


def old_request(database: Path) -> None:
    made = TraceDatabase(database)
    made.request("old", recorded_ns=time.time_ns() - 40 * DAY_NS)
    made.close()


def record_although(app: App) -> None:
    """Have an app record, whatever it has to report of its settings."""
    process = app.start(app.script("answer('new', 1); assert get_store().sync(30)"))
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0, errors


def test_what_is_too_old_goes_when_the_writer_starts(tmp_path: Path, app: App) -> None:
    old_request(tmp_path / "traces.db")
    app.run(app.script("answer('new', 1)"))
    wait_until(lambda: request_ids(tmp_path / "traces.db") == {"new"}, "the old request to be pruned")


@pytest.mark.parametrize("settings", ['[store]\nkeep = "forever"', '[store]\nkeep = "forever"\ndurabilty = "power"'])
def test_what_is_to_be_kept_is_kept_also_with_a_typo_beside_it(tmp_path: Path, app: App, settings: str) -> None:
    (tmp_path / "hush.toml").write_text(settings)
    old_request(tmp_path / "traces.db")
    record_although(app)
    assert request_ids(tmp_path / "traces.db") == {"new", "old"}


def test_settings_that_are_named_and_not_there_prune_nothing(
    tmp_path: Path, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSH_CONFIG", str(tmp_path / "missing.toml"))
    old_request(tmp_path / "traces.db")
    record_although(app)
    assert request_ids(tmp_path / "traces.db") == {"new", "old"}


def test_pruning_goes_on_while_an_app_records_without_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_INTERVAL_S", 0.1)
    database = tmp_path / "traces.db"
    directory = journal_directory(database)
    FILES.make_directory(directory)
    lock = elect(directory)
    assert lock is not None
    log: list[str] = []
    writer = Writer(database, directory, lock=lock, retention=Retention(keep_s=0.5), log=log.append)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        store, number, is_pruned = get_store(database), 0, False
        deadline = time.monotonic() + 30
        while not is_pruned and time.monotonic() < deadline:
            number += 1
            store.insert_node_trace(f"r{number}", "flow", "n", None, None, 0, None, None, None, None, None)
            store.mark_request_complete(f"r{number}", "LocalTracer", {})
            if number % 20 == 0:
                there = request_ids(database)
                is_pruned = bool(there) and "r1" not in there
            time.sleep(0.002)  # never a tenth of a second, after which the writer would take it for a pause
        assert is_pruned
    finally:
        writer.end_soon()
        thread.join(30)
    assert not thread.is_alive()
    assert get_background(database).dropped == {}
