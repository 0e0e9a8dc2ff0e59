"""`hush doctor`: the sum of all records, and every trouble with what to do about it."""

from __future__ import annotations

import os
import re
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from fake_plugin import install, install_tracer
from hush_command import Hush, on_terminal, without_colours
from rich.cells import cell_len
from trace_database import TraceDatabase
from waiting import wait_until

from hush_core import LocalTracer, code_node, get_store
from hush_core.background.supervisor import control, get_background
from hush_core.cli import examination
from hush_core.journal.format import SET_ASIDE


@code_node
def step(number: int) -> int:
    return number


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database of this process, with one request of three nodes: 8 records."""
    with LocalTracer().trace("flow", request_id="r"):
        step(1)
        step(2)
    assert get_store().sync(30)
    return tmp_path / "traces.db"


def examined(hush: Hush) -> tuple[int, Any]:
    import json

    result = hush("doctor", "--json")
    return result.exit_code, json.loads(result.stdout)


def problems(hush: Hush) -> str:
    code, seen = examined(hush)
    assert code == 1
    assert not seen["ok"]
    return "\n".join(f"{problem['part']}: {problem['what']} -> {problem['todo']}" for problem in seen["problems"])


def test_all_is_well_where_nothing_was_recorded_yet(hush: Hush, tmp_path: Path) -> None:
    shown = hush.output("doctor")
    assert "not there yet: nothing has been recorded" in shown
    assert "0 accepted" in shown
    assert "Everything is in order." in shown
    assert sorted(os.listdir(tmp_path)) == ["home"]


def test_the_sum_of_all_records_is_shown(hush: Hush, path: Path) -> None:
    shown = hush.output("doctor")
    assert "8 accepted\n" in shown
    assert "= 8 stored + 0 in the journal + 0 set aside + 0 dropped" in shown
    assert "1 request (1 completed), 3 nodes" in shown
    assert f"process {os.getpid()}: 8 records" in shown
    assert f"process {control(path, {'verb': 'status'})['pid']}, hush-core" in shown


def test_json_has_the_same_and_more(hush: Hush, path: Path) -> None:
    code, seen = examined(hush)
    assert (code, seen["ok"], seen["problems"]) == (0, True, [])
    assert seen["records"] == {
        "accepted": 8, "stored": 8, "in_journal": 0, "set_aside": 0, "dropped": {}, "adds_up": True
    }  # fmt: skip
    assert seen["database"]["requests"] == {"completed": 1}
    [journal] = seen["journals"]
    assert (journal["pid"], journal["alive"], journal["accepted"], journal["numbered"]) == (os.getpid(), True, 8, 8)
    assert set(seen["versions"]) == {"hush-core", "Python", "SQLite", "system"}
    assert seen["settings"]["store"]["keep"] == "30d"
    assert seen["writer"]["pid"]


def test_an_sqlite_that_could_be_harmed_elsewhere_is_noted_as_harmless_here(
    hush: Hush, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr("sqlite3.sqlite_version", "3.40.1")
    shown = hush.output("doctor")
    assert "SQLite 3.40.1: before 3.51.3" in shown
    assert "only the writer's one connection writes" in shown
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 51, 3))
    assert "before 3.51.3" not in hush.output("doctor")


def test_records_that_were_dropped_are_named_with_what_to_do(hush: Hush, path: Path) -> None:
    get_background().drop("disk full")
    get_background().drop("disk full")
    said = problems(hush)
    assert "2 records could not be kept: disk full. -> Free space on the disk" in said
    assert "2 dropped: disk full" in hush("doctor").stdout


def test_losses_of_processes_that_are_gone_are_noted_and_are_no_problem_for_ever(hush: Hush, path: Path) -> None:
    from hush_core.store.database import open_database

    connection = open_database(path)
    connection.execute("INSERT INTO total (name, count) VALUES ('dropped:disk full', 5)")
    connection.close()
    code, seen = examined(hush)
    assert code == 0
    assert "5 records could not be kept: disk full." in [note["what"] for note in seen["notes"]]
    assert seen["records"]["accepted"] == 13


def set_aside(path: Path, name: str) -> None:
    folder = Path(f"{path}.journal", SET_ASIDE)
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"?")


def test_records_set_aside_are_a_problem_while_their_files_are_there(hush: Hush, path: Path) -> None:
    set_aside(path, "x.record")
    assert "could not be read; kept: 1 file. -> Look at" in problems(hush)


def test_bytes_set_aside_that_were_counted_as_records_are_a_problem(hush: Hush, path: Path) -> None:
    change_counts(path, "stored = stored - 2, set_aside = set_aside + 2")
    set_aside(path, "x.bytes")
    assert "2 records could not be read; kept: 1 file." in problems(hush)


def test_the_torn_record_that_a_process_died_in_is_a_note_and_no_problem(hush: Hush, path: Path) -> None:
    set_aside(path, "x.bytes")
    code, seen = examined(hush)
    assert code == 0
    assert any("died is kept, torn, as 1 file" in note["what"] for note in seen["notes"])


def change_counts(path: Path, change: str) -> None:
    """Of this process's journal, as the database has them."""
    from hush_core.store.database import open_database

    connection = open_database(path)
    connection.execute(f"UPDATE journal SET {change}")
    connection.close()


def test_counts_that_do_not_add_up_are_a_problem(hush: Hush, path: Path) -> None:
    change_counts(path, "stored = stored - 4")
    said = problems(hush)
    assert "took 8 numbers, but 4 are accounted for. -> This is a defect of hush" in said
    assert "Ctrl+C" not in said


def test_of_a_record_or_two_that_are_missing_it_says_that_an_interrupt_may_be_why(hush: Hush, path: Path) -> None:
    change_counts(path, "stored = stored - 1")
    said = problems(hush)
    assert "took 8 numbers, but 7 are accounted for. -> Ctrl+C" in said
    assert "If there was none of that, it is a defect of hush" in said


def test_a_wrong_setting_is_a_problem_that_names_the_file(hush: Hush, path: Path) -> None:
    Path("hush.toml").write_text("[store]\nkep = '1d'\n")
    assert "store.kep: unknown setting, did you mean 'keep'?" in problems(hush)


def test_a_settings_file_that_is_not_there_is_a_problem_and_no_crash(
    hush: Hush, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUSH_CONFIG", "/nowhere/hush.toml")
    monkeypatch.setattr("hush_core.cli.leftover.holds_more_than_stored", lambda _: True)
    assert "HUSH_CONFIG names /nowhere/hush.toml, which is not a file" in problems(hush)


def test_a_database_that_cannot_be_reached_is_a_problem_and_no_crash(hush: Hush, tmp_path: Path) -> None:
    (tmp_path / "traces.db").symlink_to(tmp_path / "traces.db")
    assert "cannot be reached" in problems(hush)


def test_the_settings_say_which_file_they_are_of(hush: Hush) -> None:
    Path("hush.toml").write_text("[store]\nkeep = '7d'\n")
    shown = hush.output("doctor")
    assert str(Path("hush.toml").absolute()) in shown
    assert "keep = 7d" in shown


def test_a_database_that_others_may_read_is_a_problem(hush: Hush, path: Path) -> None:
    path.chmod(0o644)
    assert f"chmod 600 {path}" in problems(hush)


@pytest.mark.parametrize(
    ("statement", "said"),
    [("PRAGMA user_version = 99", "schema 99; this hush reads up to")],
)
def test_a_database_that_cannot_be_read_is_a_problem_and_the_rest_is_shown(
    hush: Hush, database: TraceDatabase, statement: str, said: str
) -> None:
    database.connection.execute(statement)
    assert said in problems(hush)
    shown = hush("doctor").stdout
    assert "not counted: the database cannot be read" in shown
    assert "versions" in shown


def test_a_database_that_was_put_aside_damaged_is_a_problem(hush: Hush, path: Path) -> None:
    Path(f"{path}.damaged-20250131T120000-7").touch()
    assert ".recover` gets back what can be read" in problems(hush)


def test_a_writer_that_does_not_answer_is_a_problem(hush: Hush, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_ANSWER_S", 0.1)
    writer = control(path, {"verb": "status"})["pid"]
    os.kill(writer, signal.SIGSTOP)
    try:
        assert "A writer runs, but has not answered" in problems(hush)
    finally:
        os.kill(writer, signal.SIGCONT)


def test_records_that_cannot_be_stored_are_a_problem_with_the_writers_words(
    hush: Hush, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(f"{path}.journal", "writer.log").write_text("one\ntwo\nthree\nfour: disk I/O error\n")
    monkeypatch.setattr("hush_core.cli.leftover.store_leftovers", lambda _: "disk I/O error")
    said = problems(hush)
    assert "Records wait in the journals and cannot be stored: disk I/O error" in said
    assert "two\nthree\nfour: disk I/O error" in said and "one" not in said.splitlines()


def test_a_disk_that_is_almost_full_is_a_problem(hush: Hush, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_LITTLE_SPACE_BYTES", 1 << 62)
    assert "is almost full" in problems(hush)


def test_a_network_file_system_is_a_problem(hush: Hush, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hush_core.system.filesystem_of", lambda _: "nfs4")
    assert "network file system (nfs4)" in problems(hush)


def test_after_the_last_process_has_ended_the_sum_stays(hush: Hush, tmp_path: Path) -> None:
    import subprocess
    import sys

    script = "from hush_core import LocalTracer\nwith LocalTracer().trace('flow'): pass"
    for _ in range(3):
        subprocess.run([sys.executable, "-c", script], check=True)
    wait_until(lambda: examined(hush)[1]["journals"] == [], "the journals to be forgotten")
    code, seen = examined(hush)
    assert code == 0
    assert seen["records"]["accepted"] == seen["records"]["stored"] == 12
    assert seen["database"]["requests"] == {"completed": 3}


# -- deliveries -------------------------------------------------------------------------------------------------------


def ago_ns(**units: float) -> int:
    return int((datetime.now(timezone.utc) - timedelta(**units)).timestamp() * 1e9)


def test_the_sum_of_all_deliveries_is_shown(hush: Hush, database: TraceDatabase) -> None:
    for number, status in enumerate(["flushed"] * 4 + ["pending"] * 3 + ["flushing", "skipped", "skipped"]):
        database.delivery(database.request(f"r{number}"), status=status, due_ns=time.time_ns())
    shown = hush.output("doctor")
    assert "deliveries  10 deliveries\n" in shown
    assert "= 4 delivered + 4 waiting + 0 dead letters + 2 skipped" in shown
    assert "prod: 4 waiting, under way" in shown
    assert examined(hush)[1]["deliveries"] == {
        "total": 10, "delivered": 4, "waiting": 4, "dead_letters": 0, "skipped": 2,
        "undelivered": {"prod": {"pending": 3, "flushing": 1}},
    }  # fmt: skip


def test_a_paused_tracer_is_a_problem_with_what_somebody_has_to_put_right(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod", paused="HTTP 401: wrong key", failures=1)
    database.delivery(database.request("r"), due_ns=ago_ns(hours=5))
    said = problems(hush)
    assert "deliveries: 'prod' is paused, and 1 request waits for it: HTTP 401: wrong key" in said
    assert "-> Put that right, then `hush flush --tracer prod`" in said
    assert said.count("prod' ") == 1
    assert examined(hush)[1]["tracers"][0]["paused"] == "HTTP 401: wrong key"


def test_an_open_breaker_is_a_problem_that_says_until_when(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod", failures=9, retry_ns=ago_ns(seconds=-100), last_error="refused")
    for number in range(3):
        database.delivery(database.request(f"r{number}"), due_ns=time.time_ns())
    assert re.search(
        r"3 requests wait for 'prod': its backend failed 9 times in a row, tried again in 1 m \d\d s, at .+? "
        r"\(refused\) -> Nothing, if its backend is being seen to: nothing is lost",
        problems(hush),
    )


def test_dead_letters_are_a_problem_that_names_the_command(hush: Hush, database: TraceDatabase) -> None:
    database.tracer("prod", last_error="HTTP 400: bad span", last_error_ns=5)
    database.delivery(database.request("r"), status="failed")
    said = problems(hush)
    assert "1 request could not be delivered to 'prod' and will not be tried again." in said
    assert "HTTP 400: bad span" in said and "`hush redrive --tracer prod`" in said


def test_what_waits_for_more_than_an_hour_is_a_problem(hush: Hush, database: TraceDatabase) -> None:
    database.delivery(database.request("a"), "young", due_ns=ago_ns(minutes=50))
    assert examined(hush)[0] == 0
    database.delivery(database.request("b"), "old", due_ns=ago_ns(minutes=70))
    said = problems(hush)
    assert re.search(r"1 request waits for 'old', the first of them since \S+ \S+, for 1 h 10 m", said)
    assert "young" not in said


def test_a_configured_tracer_that_is_not_installed_is_a_problem(hush: Hush, database: TraceDatabase) -> None:
    Path("hush.toml").write_text("[tracers.prod]\ntype = 'langfuse'\n")
    said = problems(hush)
    assert "The tracer 'prod' of the settings is not to be had: No tracer named 'langfuse'. Installed: local" in said
    assert "-> Install its plugin here, or correct type in [tracers.prod]." in said


def test_a_tracer_that_only_another_environment_has_is_no_problem(hush: Hush, database: TraceDatabase) -> None:
    database.delivery(database.request("r"), "mine", tracer_type="MineTracer", due_ns=time.time_ns())
    code, seen = examined(hush)
    assert code == 0
    assert "What is due to 'mine' was recorded with a tracer that is not installed here" in str(seen["notes"])


# -- plugins ----------------------------------------------------------------------------------------------------------

MASK = """
from hush_core import hookimpl

@hookimpl
def hush_mask(record):
    return None
"""


def test_plugins_are_named_with_their_package(hush: Hush, plugins: Path) -> None:
    install_tracer(plugins, "box", "return None")
    shown = hush.output("doctor")
    assert "plugins     1 plugin\n" in shown and "box: hush-box 1.2.3" in shown
    assert {"name": "box", "package": "hush-box", "version": "1.2.3", "hooks": ["hush_register_tracers"]} in examined(
        hush
    )[1]["plugins"]["loaded"]


def test_a_broken_plugin_is_a_problem_with_its_reason(hush: Hush, plugins: Path) -> None:
    install(plugins, "bad", "1 / 0")
    said = problems(hush)
    assert "plugins: The plugin 'bad' (hush-bad 1.2.3) cannot be used: ZeroDivisionError" in said
    assert "block = ['bad']" in said
    assert examined(hush)[1]["plugins"]["broken"][0]["name"] == "bad"


def test_a_mask_that_is_not_installed_is_a_problem(hush: Hush, plugins: Path) -> None:
    Path("hush.toml").write_text("[mask]\nplugins = ['nosuch', 'box']\n")
    install_tracer(plugins, "box", "return None")
    said = problems(hush)
    assert "[mask] plugins names 'nosuch': The plugin 'nosuch' cannot be loaded: it is not installed" in said
    assert "[mask] plugins names 'box': it has no hush_mask" in said
    assert "withhold the values of records" in said


def test_a_plugin_that_could_mask_and_is_not_asked_to_is_noted(hush: Hush, plugins: Path) -> None:
    install(plugins, "veil", MASK)
    code, seen = examined(hush)
    assert code == 0
    assert "The plugin 'veil' (hush-veil 1.2.3) can mask records, and is not named in [mask] plugins" in str(
        seen["notes"]
    )
    Path("hush.toml").write_text("[mask]\nplugins = ['hush-veil']\n")
    code, seen = examined(hush)
    assert (code, "veil" in str(seen["notes"])) == (0, False)


def test_wrong_settings_leave_the_deliveries_to_be_seen(hush: Hush, database: TraceDatabase) -> None:
    Path("hush.toml").write_text("[store]\nkep = '1d'\n")
    database.delivery(database.request("r"), status="failed")
    assert "could not be delivered to 'prod'" in problems(hush)
    assert "not known: the settings cannot be read" in hush("doctor").stdout


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_no_line_of_prose_is_wider_than_it(path: Path, columns: int) -> None:
    lines = without_colours(on_terminal("doctor", columns=columns)).splitlines()
    findings = lines[next(at for at, line in enumerate(lines) if "versions" in line) + 1 :]
    assert max(map(cell_len, findings)) <= columns
