"""What a tracer prints reaches the log of its tracer: bounded, stamped, and without its secrets."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from canary import CANARY
from odd_tracers import kept
from trace_database import TraceDatabase
from waiting import wait_until
from worker_process import Workers

from hush_core.delivery import output
from hush_core.delivery.output import Log, log_path

SECRET = CANARY
SEALED = {"secret": "${HUSH_TEST_SECRET}"}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TEST_SECRET", SECRET)


def test_what_is_printed_is_in_the_log_line_by_line_without_secrets(database: TraceDatabase, start: Workers) -> None:
    worker = start("Prints", config=SEALED)
    assert worker.kinds([database.request("r-1"), database.request("r-2")]) == ["delivered"] * 2
    wait_until(lambda: start.log().count("\n") == 4, "all that was printed")
    lines = [
        re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d \[{worker.pid}\] (.*)", each)
        for each in start.log().splitlines()
    ]
    assert [each and each[1] for each in lines] == [
        "printed r-1 with [redacted]",
        "from a command: [redacted]",
        "printed r-2 with [redacted]",
        "from a command: [redacted]",
    ]
    log = log_path(database.path, "prod")
    assert (log.stat().st_mode & 0o777, log.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_flood_neither_blocks_nor_fills_the_disk_nor_shows_a_secret(database: TraceDatabase, start: Workers) -> None:
    worker = start("Floods", config=SEALED)
    began = time.monotonic()
    assert worker.kinds([database.request("r-1"), database.request("r-2")]) == ["delivered"] * 2
    assert time.monotonic() - began < 10.0
    assert len(kept(start.kept)) == 2
    worker.let_go()
    log = start.log()
    assert "first line" in log
    assert re.search(r"\.\.\. \d{7,} bytes more were printed, and are not kept\.", log)
    assert len(log) < 3 * 64 * 1024
    assert all(part not in log for part in (SECRET[:8], SECRET[-8:], SECRET[4:12]))


def test_an_error_is_in_the_log_with_where_it_came_from_and_without_secrets(
    database: TraceDatabase, start: Workers
) -> None:
    [outcome] = start("Fails", config=SEALED).work([database.request("error-1")])
    assert outcome.error == "ValueError: cannot send [redacted]"
    assert "flush of delivery 1001 (attempt 1): retry: ValueError: cannot send [redacted]" in start.log()
    assert "odd_tracers.py" in start.log() and SECRET not in start.log()


def test_the_parts_of_what_references_stand_for_are_shown_nowhere(database: TraceDatabase, start: Workers) -> None:
    config = {"url": "${HUSH_TEST_URL}", "headers": {"authorization": "${HUSH_TEST_HEADER}"}}
    variables = {
        "HUSH_TEST_URL": "https://login-1:pass%40word@host.example/in?page=2&api_key=key-0123",
        "HUSH_TEST_HEADER": "Bearer tok-4567",
    }
    [outcome] = start("QuotesParts", config=config, variables=variables).work([database.request("r-1")])
    expected = "as [redacted] with [redacted], [redacted], to host.example/in?page=2&api_key=[redacted] and [redacted]"
    assert outcome.error == f"ValueError: {expected}"
    wait_until(lambda: f"] {expected}" in start.log(), "what was printed")
    for part in ("login-1", "pass%40word", "pass@word", "key-0123", "tok-4567"):
        assert part not in start.log()


def test_a_reason_not_to_be_usable_holds_no_secret(database: TraceDatabase, start: Workers, tmp_path: Path) -> None:
    (tmp_path / "tells.py").write_text("import os; raise ValueError(os.environ['HUSH_TEST_SECRET'])")
    error = start.unready("tells:Tracer", config=SEALED, path=[str(tmp_path)]).unusable()
    assert "[redacted]" in error and SECRET not in error
    assert SECRET not in start.log()


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", "ä" * 300, "a b", "..", "x\0y"])
def test_a_tracer_of_any_name_has_a_log_beside_the_database(name: str) -> None:
    path = log_path(Path("/data/traces.db"), name)
    assert path.parent == Path("/data/traces.db.journal")
    assert re.fullmatch(r"delivery-[A-Za-z0-9._-]{0,90}\.log", path.name)
    assert path != log_path(Path("/data/traces.db"), "prod")


def test_two_names_that_look_alike_in_a_file_name_have_logs_of_their_own() -> None:
    names = ["a/b", "a_b", "a b", "ä" * 300, "ä" * 301]
    assert len({log_path(Path("/data/traces.db"), name) for name in names}) == len(names)


# -- the log file -----------------------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    # This process's own crashes are pytest's to write down.
    monkeypatch.setattr(output.faulthandler, "enable", lambda *_, **__: None)
    monkeypatch.setattr(output.faulthandler, "register", lambda *_, **__: None)
    return Log(tmp_path / "made" / "x.log")


def test_a_log_keeps_one_older_file_and_no_more(log: Log, tmp_path: Path) -> None:
    for at in range(400):
        log.write([f"{at} " + "x" * 10_000])
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "made").iterdir()}
    assert sizes.keys() == {"x.log", "x.log.1"}
    assert all(size <= 1024 * 1024 + 20_000 for size in sizes.values())
    assert "399 xxx" in (tmp_path / "made" / "x.log").read_text()


def test_a_log_that_another_process_renamed_is_begun_anew(log: Log, tmp_path: Path) -> None:
    log.write(["one"])
    path = tmp_path / "made" / "x.log"
    path.rename(tmp_path / "made" / "x.log.1")
    log.write(["two"])
    assert "two" in path.read_text() and "one" not in path.read_text()


def test_a_log_whose_descriptor_was_closed_and_taken_writes_nothing_into_what_took_it(log: Log, tmp_path: Path) -> None:
    log.write(["one"])
    with open(tmp_path / "other", "w") as other:
        taken = log._fd
        os.dup2(other.fileno(), taken)
        log.write(["two"])
        os.write(taken, b"mine")
    os.close(taken)
    assert (tmp_path / "other").read_text() == "mine"
    assert "two" in (tmp_path / "made" / "x.log").read_text()


def test_what_would_move_a_cursor_or_forge_a_line_is_shown_as_its_code(log: Log, tmp_path: Path) -> None:
    log.write(["a\x1b[2Jb\rc\nd\te \ud800"])
    [line] = (tmp_path / "made" / "x.log").read_text().splitlines()
    assert line.endswith("a\\x1b[2Jb\\x0dc\\x0ad\te \\ud800")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Log(tmp_path / "file" / "x.log").write(["lost"])
