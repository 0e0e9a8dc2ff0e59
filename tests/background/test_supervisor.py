"""The app's handle on the writer: one per database, never in the way, and it tells what it could not do."""

from __future__ import annotations

import base64
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from waiting import wait_until

from hush_core.background import supervisor
from hush_core.background.supervisor import (
    Background,
    control,
    get_background,
    journal_directory,
    shutdown_background,
)
from hush_core.config import default_db_path
from hush_core.errors import StoreError
from hush_core.model import NODE, ORIGIN

EACH_RECORD = msgspec.msgpack.encode((NODE, "r", "flow", "node"))


def count_nodes(path: Path) -> int:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM node").fetchone()
    return int(count)


# -- one per database -------------------------------------------------------------------------------------------------


def test_the_same_file_has_one_background_however_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    monkeypatch.chdir(tmp_path)
    names = (
        tmp_path / "folder" / "a.db",
        "folder/a.db",
        "link/a.db",
        str(tmp_path / "folder" / ".." / "link" / "a.db"),
    )
    assert len({id(get_background(name)) for name in names}) == 1
    assert get_background("folder/b.db") is not get_background("folder/a.db")


def test_the_default_path_is_read_at_each_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "one.db"))
    one = get_background()
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "two.db"))
    assert get_background().db_path == tmp_path / "two.db"
    assert get_background(tmp_path / "one.db") is one


def test_threads_that_ask_at_once_get_the_same(tmp_path: Path) -> None:
    start, found = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        found.append(get_background(tmp_path / "a.db"))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_a_signal_handler_may_ask_while_the_first_one_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.db"
    asked: list[Background] = []
    make = Background.__init__
    before = signal.signal(signal.SIGUSR1, lambda *_: asked.append(get_background(path)))

    def interrupted(self: Background, db_path: Path) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, before)
        make(self, db_path)

    monkeypatch.setattr(Background, "__init__", interrupted)
    assert get_background(path) is asked[0] is get_background(path)


def test_asking_for_it_touches_no_disk_and_starts_nothing(tmp_path: Path) -> None:
    background = get_background(tmp_path / "a.db")
    assert not background.is_running
    assert background.sync(0.0)
    assert background.shutdown(0.0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


# -- recording and waiting --------------------------------------------------------------------------------------------


def test_sync_returns_once_all_that_was_recorded_is_in_the_database(tmp_path: Path) -> None:
    background = get_background(tmp_path / "a.db")
    for round_number in range(1, 4):
        for _ in range(200):
            background.append(EACH_RECORD)
        assert background.sync(30.0)
        assert count_nodes(background.db_path) == 200 * round_number
        assert background.is_running


def test_sync_says_false_when_the_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "start_writer", lambda *_, **__: os.getpid())
    background = get_background(tmp_path / "a.db")
    background.append(EACH_RECORD)
    assert not background.sync(0.05)


def test_shutting_down_waits_for_every_database(tmp_path: Path) -> None:
    backgrounds = [get_background(tmp_path / f"{name}.db") for name in "abc"]
    for background in backgrounds:
        background.append(EACH_RECORD)
    assert shutdown_background(30.0)
    assert [count_nodes(background.db_path) for background in backgrounds] == [1, 1, 1]


def test_the_journal_says_where_its_records_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"caf\xe9")  # a name that is no text
    os.mkdir(odd)
    monkeypatch.chdir(odd)
    background = get_background(tmp_path / "a.db")
    background.append(EACH_RECORD)
    assert background.sync(30.0)
    kind, origin = msgspec.msgpack.decode(background._origin())
    assert kind == ORIGIN
    assert base64.b64decode(origin["cwd"]["$bytes"]) == os.fsencode(os.getcwd())
    assert origin["path"] and all(isinstance(entry, str) for entry in origin["path"])
    with closing(sqlite3.connect(background.db_path)) as connection:
        (stored,) = connection.execute("SELECT origin FROM origin").fetchone()
    assert list(msgspec.json.decode(stored)["cwd"]) == ["$bytes"]


# -- what cannot be done ----------------------------------------------------------------------------------------------


@pytest.mark.expects_report
def test_each_kind_of_problem_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    background = get_background(tmp_path / "a.db")
    with caplog.at_level(logging.ERROR, "hush"):
        for _ in range(3):
            background.report(OSError("no room"), "keeping a record")
            background.report(ValueError("odd"), "keeping a record")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("hush: keeping a record failed: no room. The workflow goes on")
    assert f"hush doctor --db {background.db_path}" in said[0]


@pytest.mark.expects_report
def test_a_logging_handler_that_raises_reaches_nobody(tmp_path: Path) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the handler is broken")

    handler = Broken()
    logging.getLogger("hush").addHandler(handler)
    try:
        get_background(tmp_path / "a.db").report(OSError("no room"), "keeping a record")
    finally:
        logging.getLogger("hush").removeHandler(handler)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say who listens")
@pytest.mark.parametrize("_round", range(10))
def test_a_writer_that_was_killed_and_has_not_died_yet_has_heard_nothing(tmp_path: Path, _round: int) -> None:
    background = get_background(tmp_path / "a.db")
    directory = journal_directory(tmp_path / "a.db")
    directory.mkdir()
    listening = (
        "import sys, time; from pathlib import Path; from hush_core.background.doorbell import Doorbell\n"
        "bell = Doorbell(Path(sys.argv[1]), dict); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", listening, str(directory)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert background.is_running
        writer.kill()
        assert not background.is_running


@pytest.mark.expects_report
def test_a_machine_that_starts_no_process_costs_the_workflow_nothing_but_the_storing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: list[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", refuse)
    background = get_background(tmp_path / "a.db")
    background.append(EACH_RECORD)
    assert not background.sync(0.1)
    assert background.dropped == {}
    assert "starting the writer process" in reports[0]
    monkeypatch.undo()
    assert get_background(tmp_path / "a.db").sync(30.0)
    assert count_nodes(tmp_path / "a.db") == 1


@pytest.mark.expects_report
def test_wrong_settings_are_reported_and_the_defaults_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: list[str]
) -> None:
    (tmp_path / "hush.toml").write_text("[capture]\nstart_recrods = false\n")
    background = get_background(tmp_path / "a.db")
    assert background.start_records
    assert "reading the settings" in reports[0]
    assert "start_recrods" in reports[0]


def test_settings_are_the_apps(tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text("[capture]\nstart_records = false\n")
    assert not get_background(tmp_path / "a.db").start_records


# -- asking the writer ------------------------------------------------------------------------------------------------


def test_a_writer_is_started_to_be_asked(tmp_path: Path) -> None:
    answer = control(tmp_path / "a.db", {"verb": "status"}, timeout=30.0)
    assert (answer["journals"], answer["problem"]) == ([], None)
    background = get_background(tmp_path / "a.db")
    background.append(EACH_RECORD)  # so that it stays
    assert background.sync(30)
    assert background.is_running


def test_what_the_writer_answers_as_an_error_is_one(tmp_path: Path) -> None:
    for request in ({"verb": "dance"}, {}, {"verb": ["status"]}):
        with pytest.raises(StoreError, match=r"unknown verb .*; known: drain, environment, flush, .*"):
            control(tmp_path / "a.db", request, timeout=30.0)
    for nonsense in ({"keep_s": "long"}, {"max_size_bytes": float("inf")}, {"keep_s": float("inf")}, {"keep_s": []}):
        with pytest.raises(StoreError):
            control(tmp_path / "a.db", {"verb": "prune", **nonsense}, timeout=30.0)
    assert control(tmp_path / "a.db", {"verb": "status"})["pid"]


def test_draining_stores_what_is_in_the_journals_now(tmp_path: Path) -> None:
    background = get_background(tmp_path / "a.db")
    for _ in range(500):
        background.append(EACH_RECORD)
    assert control(background.db_path, {"verb": "drain"}, timeout=30.0)["drained"] is True
    assert count_nodes(background.db_path) == 500


def test_without_a_writer_in_time_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "start_writer", lambda *_, **__: os.getpid())
    with pytest.raises(StoreError, match=r"No writer of .*a\.db could be started within 0\.05 s.*writer\.log"):
        control(tmp_path / "a.db", {"verb": "status"}, timeout=0.05)


def test_a_database_that_cannot_be_made_is_named_in_the_log(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.mkdir()
    with pytest.raises(StoreError, match=r"writer\.log"):
        control(path, {"verb": "status"}, timeout=1.5)
    log = journal_directory(path) / "writer.log"
    wait_until(log.exists, "the log")
    assert f"{path} cannot be opened for writing: Is a directory" in log.read_text()


def test_the_tests_own_database_is_not_that_of_a_person(tmp_path: Path) -> None:
    assert tmp_path in default_db_path().parents


def test_a_writer_that_has_armed_the_bell_is_rung_again_at_once_and_one_that_heard_is_left_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = get_background(tmp_path / "a.db")
    rings: list[bool] = []
    monkeypatch.setattr(background, "_rings", lambda: rings.append(True) or True)
    monkeypatch.setattr(supervisor, "_RING_AGAIN_S", 60.0)
    for _ in range(3):
        assert not background._ring(False)
    assert len(rings) == 1
    for _ in range(3):  # it sleeps again, or is about to end
        assert not background._ring(True)
    assert len(rings) == 4


# -- the end of the app -----------------------------------------------------------------------------------------------


def test_variables_that_came_after_the_writer_was_started_go_with_another_one_if_it_does_not_listen_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str | None] = []
    monkeypatch.setattr(
        supervisor, "start_writer", lambda *_, **__: started.append(os.environ.get("KEY")) or os.getpid()
    )
    monkeypatch.setattr("hush_core.background.election._BEGINS_WITHIN_S", 60.0)
    background = get_background(tmp_path / "a.db")
    background.append(EACH_RECORD)
    background.secure(delivers=True)
    background.at_exit()
    assert started == [None]  # which has all that there is
    monkeypatch.setenv("KEY", "of a file that was read late")
    background.secure(delivers=True)
    background.at_exit()
    assert started == [None, "of a file that was read late"]
    monkeypatch.delenv("KEY")  # it was set for that request alone
    background.at_exit()
    assert len(started) == 2
