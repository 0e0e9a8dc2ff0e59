"""Processes that are made to die: forked from the test's own, so that each costs a few milliseconds."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from hush_core.background import doorbell
from hush_core.background.election import elect
from hush_core.background.supervisor import journal_directory
from hush_core.background.writer import Writer
from hush_core.journal.appender import Journal
from hush_core.store.retention import Retention
from hush_core.system import FILES, Files

_DEADLINE_S: Final = 30.0


class Child:
    """A forked process that runs a function and ends, whatever happens in it.

    :param name: of the file that takes its traceback.
    """

    def __init__(self, work: Callable[[], object], errors: Path) -> None:
        self._errors = errors
        self.status: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work)

    def _run(self, work: Callable[[], object]) -> None:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            self._errors.write_text(traceback.format_exc())
        finally:
            os._exit(status)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def is_over(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def wait(self, timeout_s: float = _DEADLINE_S) -> bool:
        """Wait until it is over. True if it came to its end, False if it was killed; fails if it raised or hangs."""
        deadline = time.monotonic() + timeout_s
        pause = 0.0002
        while not self.is_over():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                pytest.fail(f"a child process did not end within {timeout_s} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        assert self.status is not None
        if os.WIFSIGNALED(self.status):
            if os.WTERMSIG(self.status) != signal.SIGKILL:
                pytest.fail(f"a child process died of {signal.Signals(os.WTERMSIG(self.status)).name}")
            return False
        if self.status:
            pytest.fail(f"a child process raised:\n{self._errors.read_text()}")
        return True


def open_journal(
    database: Path, files: Files = FILES, *, report: Callable[[BaseException, str], None] | None = None, **more: object
) -> Journal:
    """This process's journal. It rings the writer that is there, and starts none: the test decides when one runs.

    A report raises, and so fails the child, unless the test takes it.
    """
    directory = journal_directory(database)

    def ring(is_armed: bool) -> None:
        doorbell.ring(directory)

    return Journal(
        directory,
        ring=ring,
        origin=lambda: b"\x92\x06\x80",  # [ORIGIN, {}]
        shrink=lambda payload, limit: payload[:limit],
        report=report or _raise,
        files=files,
        **more,  # type: ignore[arg-type]
    )


def _raise(problem: BaseException, doing: str) -> None:
    raise AssertionError(f"reported while {doing}") from problem


def run_writer(database: Path, files: Files = FILES, **more: object) -> None:
    """Be the writer, in this process, until no producer is left. What it has to say is appended to `log_of`."""
    directory = journal_directory(database)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = elect(directory)
    assert lock is not None, "another writer has the lock"

    def log(message: str) -> None:
        with log_of(database).open("a") as lines:
            lines.write(f"{message}\n")

    try:
        Writer(
            database,
            directory,
            lock=lock,
            retention=Retention(),
            log=log,
            files=files,
            linger_s=0.0,
            **more,  # type: ignore[arg-type]
        ).run()
    finally:
        os.close(lock)


def log_of(database: Path) -> Path:
    """Where the writers that tests run in forked processes put what they have to say."""
    return database.with_suffix(".log")


def drain(database: Path) -> None:
    """Have a fresh writer store everything that is in the journals, and end. In this process: a fork costs more."""
    run_writer(database)
    if log_of(database).exists():
        print(log_of(database).read_text())  # shown if the test fails


class Acknowledgements:
    """A pipe by which children say which of their appends have returned. What was said outlives who said it."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self.heard: list[int] = []

    def __enter__(self) -> Acknowledgements:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def say(self, number: int) -> None:
        """In a child: this has happened. Eight bytes are written whole or not at all, and survive the child."""
        os.write(self._writer, number.to_bytes(8, "little"))

    def listen(self) -> list[int]:
        """All that was said so far. Complete once the children are dead."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 1 << 20):
                self.heard += [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        return self.heard

    def wait_for(self, number: int, *, or_until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until something was said. False if the other condition came first."""
        deadline = time.monotonic() + _DEADLINE_S
        while number not in self.listen():
            if or_until():
                return False
            if time.monotonic() > deadline:
                pytest.fail(f"waited {_DEADLINE_S} s for a child to say {number}; it said {self.heard[-3:]} last")
            time.sleep(0.0005)
        return True
