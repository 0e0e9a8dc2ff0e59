"""Who starts a writer: one process at a time, and nobody waits for one that is not going to begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hush_core import system
from hush_core.background import election
from hush_core.background.election import start_unless_begun
from hush_core.system import is_doomed, is_running

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say that it was killed")


@pytest.fixture(autouse=True)
def much_time_to_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "_BEGINS_WITHIN_S", 60.0)


@pytest.fixture
def keeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def nobody() -> int:
    raise AssertionError("another one was started")


def test_a_writer_that_is_about_to_begin_is_left_to_it(tmp_path: Path, keeper: subprocess.Popen[bytes]) -> None:
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    assert not start_unless_begun(tmp_path, nobody)


def test_one_that_has_had_its_time_is_left_to_nobody(
    tmp_path: Path, keeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(election, "_BEGINS_WITHIN_S", 0.0)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)


@LINUX
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("_round", range(10))
def test_one_that_was_killed_is_replaced_also_before_it_has_had_a_processor_to_die_on(
    tmp_path: Path, keeper: subprocess.Popen[bytes], number: signal.Signals, _round: int
) -> None:
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    assert not is_doomed(keeper.pid)
    keeper.send_signal(number)
    assert is_doomed(keeper.pid)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    keeper.wait()
    assert is_doomed(keeper.pid)
    assert not is_running(keeper.pid)


@LINUX
@pytest.mark.parametrize(
    ("field", "says", "doomed"),
    [
        (system._PENDING_SIGNALS, b"256", True),  # SIGKILL
        (system._PENDING_SIGNALS, b"16384", False),  # SIGTERM, which it may handle
        (system._FLAGS, b"4194308", True),  # PF_EXITING
        (system._FLAGS, b"4195328", True),  # PF_SIGNALED
        (system._FLAGS, b"4194368", False),
        (system._EXIT_CODE, b"9", True),
    ],
)
def test_each_thing_that_the_system_says_of_the_dying_counts(
    field: int, says: bytes, doomed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = system._stat_of(os.getpid())
    assert fields is not None and not is_doomed(os.getpid())
    fields[field] = says
    monkeypatch.setattr(system, "_stat_of", lambda pid: fields)
    assert is_doomed(os.getpid()) == doomed


@LINUX
def test_one_that_is_stopped_is_waited_for_again_when_it_goes_on(keeper: subprocess.Popen[bytes]) -> None:
    keeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, keeper.pid, os.WSTOPPED)
    keeper.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, keeper.pid, os.WCONTINUED)
    assert not is_doomed(keeper.pid)
