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
from hush_core.background import doorbell, election, launch
from hush_core.background.doorbell import Doorbell, ring
from hush_core.background.election import has_begun, start_unless_begun
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


def test_one_that_has_begun_is_not_waited_for_when_it_has_ended(
    tmp_path: Path, keeper: subprocess.Popen[bytes]
) -> None:
    has_begun(tmp_path)  # of a writer that somebody started by hand
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    has_begun(tmp_path)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)


def test_one_that_begins_before_its_start_returns_has_begun_all_the_same(
    tmp_path: Path, keeper: subprocess.Popen[bytes]
) -> None:
    def start() -> int:
        has_begun(tmp_path)
        return keeper.pid

    assert start_unless_begun(tmp_path, start)
    assert start_unless_begun(tmp_path, start)


@LINUX
def test_one_that_listens_is_left_to_it_unless_it_was_killed_and_is_not_dead_yet(
    tmp_path: Path, keeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    bell = Doorbell(tmp_path, lambda request: {})
    assert ring(tmp_path)
    assert not start_unless_begun(tmp_path, nobody)
    monkeypatch.setattr(doorbell, "is_doomed", lambda pid: pid == os.getpid())
    assert not ring(tmp_path)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    bell.close()


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
def test_where_the_system_says_nothing_only_one_that_is_gone_is_doomed(
    keeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "_stat_of", lambda pid: None)
    monkeypatch.setattr(os.path, "exists", lambda path: False)  # a chroot without /proc
    assert not is_doomed(keeper.pid)
    keeper.kill()
    keeper.wait()
    assert is_doomed(keeper.pid)


@LINUX
def test_one_that_is_stopped_may_go_on_until_it_is_killed(keeper: subprocess.Popen[bytes]) -> None:
    keeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, keeper.pid, os.WSTOPPED)
    assert not is_doomed(keeper.pid)
    keeper.kill()
    assert is_doomed(keeper.pid)


def test_one_that_is_held_up_while_it_starts_one_holds_up_nobody_else_for_longer(tmp_path: Path) -> None:
    other = (
        "import sys; from pathlib import Path\n"
        "from hush_core.background import election\n"
        "for election._BEGINS_WITHIN_S in (60.0, 0.0):\n"
        "    print(election.start_unless_begun(Path(sys.argv[1]), lambda: 1))"
    )
    said: list[str] = []

    def start() -> int:  # another app rings meanwhile: this one is about to begin, and then has had its time
        done = subprocess.run(
            [sys.executable, "-c", other, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=True
        )
        said.extend(done.stdout.split())
        return os.getpid()

    assert start_unless_begun(tmp_path, start)
    assert said == ["False", "True"]


@pytest.mark.parametrize("unusable", ["a folder", "a link to nowhere"])
def test_where_nobody_can_tell_who_starts_one_each_does(
    tmp_path: Path, keeper: subprocess.Popen[bytes], unusable: str
) -> None:
    started = tmp_path / election.STARTED
    started.mkdir() if unusable == "a folder" else started.symlink_to(tmp_path / "no" / "where")
    assert start_unless_begun(tmp_path, lambda: keeper.pid)
    assert start_unless_begun(tmp_path, lambda: keeper.pid)


def test_a_shell_that_does_not_go_on_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_KEEP_RUNNING", "kill -STOP $$")
    monkeypatch.setattr(launch, "_SHELL_PATIENCE_S", 0.3)
    with pytest.raises(OSError, match=r"did not within 0\.3 s"):
        launch.start_writer(tmp_path / "traces.db")
