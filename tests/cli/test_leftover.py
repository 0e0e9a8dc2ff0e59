"""What a killed process left in its journal is stored before a command reads, and a look costs nothing otherwise."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hush_command import Hush
from waiting import wait_until

from hush_core import LocalTracer, get_store
from hush_core.background.supervisor import control, journal_directory
from hush_core.cli import leftover


def kill_writer(path: Path) -> None:
    """Kill the writer, and the shell that would start it again."""
    pid = control(path, {"verb": "status"})["pid"]
    shell = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for each in (shell, pid):
        os.kill(each, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the writer to be gone")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the writer's shell in /proc")


@needs_proc
def test_a_request_is_shown_right_after_app_and_writer_were_killed(hush: Hush, tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from hush_core import LocalTracer, code_node, get_store
        from hush_core.background.supervisor import control

        @code_node
        def step(number): return number

        with LocalTracer().trace("flow", request_id="killed"):
            step(1)
            get_store().sync(10)
            pid = control(get_store().background.db_path, {"verb": "status"})["pid"]
            shell = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            os.kill(shell, signal.SIGKILL)
            os.kill(pid, signal.SIGSTOP)
            step(2)
            os.kill(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert leftover.holds_more_than_stored(journal_directory(path))
    trace = hush.json("show", "killed")
    assert [node["node_name"] for node in trace["nodes"]] == ["flow", "step", "step"]
    assert trace["status"] == "interrupted"


def test_what_is_stored_asks_for_no_writer(hush: Hush, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalTracer().trace("flow"):
        pass
    assert get_store().sync(10)
    monkeypatch.setattr("hush_core.background.supervisor.control", lambda *_, **__: pytest.fail("asked a writer"))
    assert leftover.store_leftovers(tmp_path / "traces.db") is None
    assert len(hush.json("traces")) == 1


def test_no_journal_at_all_costs_one_look(tmp_path: Path) -> None:
    assert not leftover.holds_more_than_stored(tmp_path / "none")


def test_what_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{'0' * 32}-000000.segment").write_bytes(b"garbage" * 200)
    (tmp_path / "writer.lock").touch()
    assert not leftover.holds_more_than_stored(tmp_path)


def test_what_cannot_be_stored_is_said_and_the_rest_is_shown(
    hush: Hush, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalTracer().trace("flow"):
        pass
    assert get_store().sync(10)
    monkeypatch.setattr(leftover, "holds_more_than_stored", lambda directory: True)
    monkeypatch.setattr(
        "hush_core.background.supervisor.control", lambda *_, **__: {"drained": False, "problem": "disk full"}
    )
    for command in (["traces"], ["show"]):
        result = hush(*command)
        assert result.exit_code == 0
        assert "flow" in result.stdout
        assert "Some records are not stored yet: disk full" in result.stderr
