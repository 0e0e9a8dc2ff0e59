"""Who starts a writer: one process at a time, and nobody waits for one that is not going to begin."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hush_core.background.election import start_unless_begun
from hush_core.system import goes_on, is_running


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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say that a process was killed")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("_round", range(10))
def test_one_that_was_killed_is_replaced_also_before_it_has_had_a_processor_to_die_on(
    tmp_path: Path, keeper: subprocess.Popen[bytes], number: signal.Signals, _round: int
) -> None:
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    assert goes_on(keeper.pid)
    keeper.send_signal(number)
    assert not goes_on(keeper.pid)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    keeper.wait()
    assert not goes_on(keeper.pid)
    assert not is_running(keeper.pid)
