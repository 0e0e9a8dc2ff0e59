"""The app, the writer, or both are killed at random instants, with records that fit in a page and that do not.

The processes are the real ones: apps that record through `get_background`, and the writer that they start.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest
from waiting import wait_until

from hush_core.background.supervisor import Background, control, get_background
from hush_core.model import INTERRUPTED, NODE
from hush_core.system import Files

from ..conftest import running_processes
from .children import Acknowledgements, Child
from .history import Record, check_whole, text_of, totals

SIZES: Final = (2_000, 10_000, 50_000)
#: How many apps share a database before it is checked and another begun.
_BLOCK: Final = 20
_PER_THREAD: Final = 1 << 24  # numbers that are a thread's own


def record(name: str, number: int, size: int) -> Record:
    fields = {"node_name": "n", "execution_order": number, "input_data": text_of((name, number), size)}
    return Record(NODE, name, fields)


def run_app(
    database: Path, said: Acknowledgements, name: str, size: int, mapped: bool, threads: int, pause_s: float
) -> None:
    """Record until killed, in some threads, and say after each append that it has returned."""

    def report(_: Background, problem: BaseException, doing: str) -> None:
        Path(f"{database}.reports").write_text(f"{doing}: {problem!r}")

    Background.report = report  # type: ignore[method-assign]
    if not mapped:
        Files.can_map = lambda self, directory: False  # type: ignore[method-assign]
    background = get_background(database)

    def record_for_ever(thread: int) -> None:
        record_from(thread * _PER_THREAD, background, said, name, size, pause_s)

    for thread in range(1, threads):
        threading.Thread(target=record_for_ever, args=(thread,), daemon=True).start()
    record_for_ever(0)


def record_from(
    first: int, background: Background, said: Acknowledgements, name: str, size: int, pause_s: float
) -> None:
    """Record for ever, with numbers from one on."""
    for number in count(first):
        background.append(record(name, number, size).payload)
        said.say(number)
        if number % 20 == 0:
            background.secure()  # what completing a request does besides: it looks after the writer
        if pause_s:
            time.sleep(pause_s)


class Trial:
    """One database, the apps that recorded for it, and what each had said when it was killed."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.database = folder / "traces.db"
        self._errors = folder / "errors"
        self._dice = dice
        self._apps: list[tuple[str, int, Acknowledgements]] = []

    def start_app(self, pause_s: float = 0.0) -> tuple[Child, Acknowledgements]:
        """An app that has begun to record."""
        size = self._dice.choice(SIZES)
        name, said = f"app-{len(self._apps)}", Acknowledgements()
        self._apps.append((name, size, said))
        mapped, threads = self._dice.random() < 0.7, self._dice.choice([1, 1, 4])
        app = Child(partial(run_app, self.database, said, name, size, mapped, threads, pause_s), self._errors)
        said.wait_for(0)
        return app, said

    def writers(self) -> list[int]:
        """The process ids of the writers, without the shells that keep them running."""
        argument = f"hush_core.background {self.database}"
        return [pid for pid, argv in running_processes() if argument in argv and "/bin/sh" not in argv]

    def shells(self) -> list[int]:
        argument = f"hush_core.background {self.database}"
        return [pid for pid, argv in running_processes() if argument in argv and "/bin/sh" in argv]

    def last_stored(self, name: str, numbers: range) -> int:
        """The last of these numbers of an app's records that is in the database; -1 if none is."""
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
                (last,) = connection.execute(
                    "SELECT max(execution_order) FROM node JOIN request ON request.id = request"
                    " WHERE request_id = ? AND execution_order BETWEEN ? AND ?"
                    " AND node.id > (SELECT max(id) FROM node) - 5000",
                    (name, numbers[0], numbers[-1]),
                ).fetchone()
        except sqlite3.OperationalError:  # not made yet
            return -1
        return -1 if last is None else int(last)

    def wait_for_next_writer(self, last: int) -> float:
        """Wait until a record of the first app, and with it all before it, is stored. Returns how long it took."""
        began, first = time.monotonic(), last // _PER_THREAD * _PER_THREAD
        of_its_thread = range(first, first + _PER_THREAD)
        wait_until(lambda: self.last_stored("app-0", of_its_thread) >= last, "the next writer to go on")
        return time.monotonic() - began

    def check(self) -> None:
        """Every record whose append had returned is stored once, and at most the one in flight besides."""
        reports = Path(f"{self.database}.reports")
        assert not reports.exists(), reports.read_text()
        assert control(self.database, {"verb": "drain", "timeout_s": 60}, timeout=90)["drained"]
        check_whole(self.database)
        records = 0
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            assert connection.execute("SELECT count(*) FROM request").fetchone() == (len(self._apps),)
            for name, size, said in self._apps:
                said.listen()
                rows = connection.execute(
                    "SELECT execution_order, input_data, request.status FROM request JOIN node ON node.request ="
                    " request.id JOIN node_payload ON node_payload.node = node.id WHERE request_id = ?"
                    " ORDER BY execution_order",
                    (name,),
                ).fetchall()
                numbers = [row[0] for row in rows]
                for begin in range(0, 4 * _PER_THREAD, _PER_THREAD):
                    of_thread = range(begin, begin + _PER_THREAD)
                    found = [number for number in numbers if number in of_thread]
                    returned = [number for number in said.heard if number in of_thread]
                    assert found == list(range(begin, begin + len(found)))
                    assert len(found) - len(returned) in (0, 1)
                for number, text, status in rows:
                    assert json.loads(text) == text_of((name, number), size)
                    assert status == INTERRUPTED
                records += len(rows)
        assert totals(self.database) == {"records_stored": records}

    def end(self) -> None:
        for pid in [*self.shells(), *self.writers()]:
            kill(pid)
        for _, _, said in self._apps:
            said.close()


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def dice() -> random.Random:
    """The test's chance; its seed is shown if the test fails."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return random.Random(seed)


@contextmanager
def trial(folder: Path, dice: random.Random) -> Iterator[Trial]:
    """A trial that ends in a check of all that was recorded, and leaves nothing."""
    folder.mkdir()
    new = Trial(folder, dice)
    try:
        yield new
        new.check()
    finally:
        new.end()
    shutil.rmtree(folder)


def blocks(kills: int) -> Iterator[tuple[str, int]]:
    """How many kills to make with each database."""
    for begin in range(0, kills, _BLOCK):
        yield f"trial-{begin}", min(_BLOCK, kills - begin)


def test_an_app_killed_at_any_instant_loses_no_returned_record(tmp_path: Path, kills: int, dice: random.Random) -> None:
    for name, number in blocks(kills * 7 // 10):
        with trial(tmp_path / name, dice) as run:
            for _ in range(number):
                app, _ = run.start_app()
                time.sleep(dice.random() * 0.003)
                app.kill()


def test_a_writer_killed_at_any_instant_is_replaced_within_moments(
    tmp_path: Path, kills: int, dice: random.Random
) -> None:
    waits = []
    for name, number in blocks(kills * 15 // 100):
        with trial(tmp_path / name, dice) as run:
            app, said = run.start_app(pause_s=0.002)
            for _ in range(number):
                wait_until(lambda: bool(run.writers()), "a writer to run")
                time.sleep(dice.random() * dice.choice([0.01, 0.3]))
                if dice.random() < 0.25:
                    for pid in run.shells():
                        kill(pid)
                for pid in run.writers():
                    kill(pid)
                waits.append(run.wait_for_next_writer(said.listen()[-1]))
            app.kill()
    print(f"going on took {statistics.median(waits):.2f} s, at most {max(waits):.2f} s")
    assert statistics.median(waits) < 3.0


def test_app_and_writer_killed_together_lose_no_returned_record(
    tmp_path: Path, kills: int, dice: random.Random
) -> None:
    for name, number in blocks(kills * 15 // 100):
        with trial(tmp_path / name, dice) as run:
            for _ in range(max(number // 2, 1)):
                app, _ = run.start_app()
                wait_until(lambda: bool(run.writers()), "a writer to run")
                time.sleep(dice.random() * 0.1)
                victims = [*run.writers(), *run.shells(), app.pid]
                dice.shuffle(victims)
                for pid in victims:
                    kill(pid)
                    time.sleep(dice.random() * 0.002)
                assert not app.wait()
