"""What a killed process left in its journal is stored before a command reads, and a look costs nothing otherwise."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from hush_command import Hush
from waiting import wait_until

from hush_core import LocalTracer, get_store
from hush_core.background.supervisor import control, journal_directory
from hush_core.cli import leftover
from hush_core.errors import StoreError
from hush_core.journal.format import AWAKE_UNTIL_AT


def kill_writer(path: Path) -> None:
    """Kill the writer, and the shell that would start it again."""
    pid = control(path, {"verb": "status"})["pid"]
    shell = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    for each in (shell, pid):
        os.kill(each, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the writer to be gone")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait for the writer as long as it takes: the machine is shared."""
    monkeypatch.setattr(leftover, "_DRAIN_S", 20.0)
    monkeypatch.setattr(leftover, "_WAIT_S", 30.0)


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the writer's shell in /proc")


@needs_proc
@pytest.mark.usefixtures("patience")
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
            get_store().sync(30)
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
    assert get_store().sync(30)
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
    assert get_store().sync(30)
    monkeypatch.setattr(leftover, "holds_more_than_stored", lambda directory: True)
    monkeypatch.setattr(
        "hush_core.background.supervisor.control", lambda *_, **__: {"drained": False, "problem": "disk full"}
    )
    for command in (["traces"], ["show"]):
        result = hush(*command)
        assert result.exit_code == 0
        assert "flow" in result.stdout
        assert "Some records are not stored yet: disk full" in result.stderr


def answers(monkeypatch: pytest.MonkeyPatch, of: dict[str, Any]) -> None:
    """What the writer answers, by the verb; an exception is raised."""

    def control(db_path: Path, request: dict[str, Any], timeout: float) -> Any:
        answer = of[request["verb"]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("hush_core.background.supervisor.control", control)


def test_a_writer_that_is_merely_behind_those_that_record_is_no_reason_to_warn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftover, "holds_more_than_stored", lambda directory: True)
    answers(monkeypatch, {"drain": {"drained": False, "problem": "there is more"}, "status": {"problem": None}})
    assert leftover.store_leftovers(tmp_path / "traces.db") is None


@pytest.mark.parametrize(("awake_s", "said"), [(60.0, None), (-0.4, "did not answer")])
def test_a_writer_that_does_not_answer_is_busy_while_its_promise_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, awake_s: float, said: str | None
) -> None:
    with LocalTracer().trace("flow"):
        pass
    assert get_store().sync(30)
    os.kill(control(tmp_path / "traces.db", {"verb": "status"})["pid"], signal.SIGSTOP)  # and promises nothing more
    (segment,) = journal_directory(tmp_path / "traces.db").glob("*.segment")
    with segment.open("r+b") as file:
        file.seek(AWAKE_UNTIL_AT)
        file.write(struct.pack("<d", time.monotonic() + awake_s))
    monkeypatch.setattr(leftover, "holds_more_than_stored", lambda directory: True)
    answers(monkeypatch, {"drain": StoreError("did not answer")})
    assert leftover.store_leftovers(tmp_path / "traces.db") == said


def test_beside_an_app_that_records_without_end_a_command_answers_soon_and_warns_of_nothing(
    hush: Hush, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftover, "_WAIT_S", 30.0)  # for a writer that gets no processor; what it stores has its time
    script = textwrap.dedent(
        """
        import time
        from hush_core import LocalTracer, code_node

        @code_node
        def step(number): return number

        while True:
            with LocalTracer().trace("flow"):
                for number in range(20):
                    step(number)
            time.sleep(0.001)  # or it would fill the disk faster than anything can read
        """
    )
    app = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_until(lambda: bool(hush("traces").stdout), "the first requests", 30)
        took: list[float] = []
        # The best counts, as other programs run on the machine, too: of more where it has not been so quick yet.
        while len(took) < 8 or (min(took) >= 0.4 and len(took) < 40):
            began = time.monotonic()
            result = hush("traces", "-n", "1")
            took.append(time.monotonic() - began)
            assert result.stderr == ""
        assert min(took) < 0.4
    finally:
        app.kill()
        app.wait()
