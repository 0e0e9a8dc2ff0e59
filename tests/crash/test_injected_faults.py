"""Faults below Python: strace makes system calls of the real writer fail, or kills it inside them.

So the writer also dies in the middle of a commit or a checkpoint of SQLite's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

import hush_core
from hush_core.background.supervisor import control, journal_directory

from .children import Acknowledgements, Child, open_journal
from .history import Record, check_whole, expected, history, stored, totals

RECORDS: Final = history(40, (60, 4000, 20_000))
#: Too little to fill one segment.
FEW: Final = history(20, (60, 700))


@pytest.fixture(autouse=True)
def strace() -> None:
    """Where strace is not, or may not trace, these faults are not tried; as root they must be, or the test fails."""
    if not sys.platform.startswith("linux"):
        pytest.skip("strace needs Linux")
    give_up = pytest.fail if os.geteuid() == 0 else pytest.skip
    if shutil.which("strace") is None:
        give_up("these faults need strace: apt-get install strace")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        give_up(f"strace may not trace here: {tried.stderr.strip()}")


@contextmanager
def traced_writer(database: Path, log: Path, *inject: str) -> Iterator[subprocess.Popen[bytes]]:
    """A writer whose system calls are injected with faults."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(hush_core.__file__).parents[1]), *sys.path])}
    command = ["strace", "-f", "-qq", "-o", str(log), *inject, sys.executable, "-m", "hush_core.background"]
    writer = subprocess.Popen([*command, str(database)], env=environment, stderr=subprocess.DEVNULL)
    try:
        yield writer
    finally:
        writer.kill()
        writer.wait()


def record(database: Path, records: list[Record]) -> None:
    journal = open_journal(database)
    for each in records:
        journal.append(each.payload)


def record_slowly(database: Path, said: Acknowledgements) -> None:
    """An app that goes on recording while its writer is in trouble, and waits until all is stored and it has left the
    segment: the writer may begin late, and find all records there.
    """
    journal = open_journal(database)
    for number, each in enumerate(FEW):
        journal.append(each.payload)
        said.say(number)
        time.sleep(0.01)
    deadline = time.monotonic() + 20.0
    while not journal.is_stored(journal.position()) or journal.position().segment == 0:
        is_stored = journal.is_stored(journal.position())
        assert time.monotonic() < deadline, f"stored: {is_stored}; the app is at {journal.position()}"
        journal.tend()
        time.sleep(0.005)


def test_a_failed_sync_is_an_alarm_and_costs_no_record(tmp_path: Path) -> None:
    database, trace = tmp_path / "traces.db", tmp_path / "trace"
    with Acknowledgements() as said:
        app = Child(partial(record_slowly, database, said), tmp_path / "errors")
        said.wait_for(0)
        (segment,) = journal_directory(database).glob("*-000000.segment")
        inject = ["-P", str(segment), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"]
        with traced_writer(database, trace, *inject):
            assert app.wait()
    assert "EIO" in trace.read_text(), "the fault was not injected"
    assert (journal_directory(database) / "writer.log").read_text().count("ALARM") == 1
    check_all(database, FEW)


def check_all(database: Path, records: list[Record]) -> None:
    assert control(database, {"verb": "drain", "timeout_s": 30}, timeout=40)["drained"]
    check_whole(database)
    assert stored(database) == expected(records)
    assert totals(database) == {"records_stored": len(records)}


#: What SQLite and the writer change files with.
CHANGES: Final = "pwrite64,write,fdatasync,fsync,ftruncate,unlink,rename,fallocate"


def test_a_writer_killed_inside_a_system_call_loses_nothing_and_doubles_nothing(
    tmp_path: Path, kills: int, instants: Iterator[int]
) -> None:
    Child(partial(record, tmp_path / "template" / "traces.db", RECORDS), tmp_path / "errors").wait()
    stride, killed_at = 1 if kills >= 1000 else 40, 0
    for instant in instants:
        at = instant * stride
        folder = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "template", folder)
        database = folder / "traces.db"
        inject = ["-e", f"trace={CHANGES}", "-e", f"inject={CHANGES}:signal=KILL:when={at}"]
        with traced_writer(database, tmp_path / "trace", *inject) as writer:
            killed = writer.wait(60.0) != 0
        print(f"killed at change {at}")
        check_all(database, RECORDS)
        if not killed:
            break
        killed_at = at
    assert killed_at > 100
