"""`hush tail`: what happens, as it happens, until Ctrl+C."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hush_command import COMMAND
from trace_database import TraceDatabase

from hush_core import LocalTracer, code_node


class Tail:
    """A `hush tail` that runs, and its lines as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "tail", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, timeout_s: float = 20.0) -> str:
        """The next line; fails when none comes."""
        return self._lines.get(timeout=timeout_s)

    def event(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.line())
        return parsed

    def complaint(self) -> str:
        """The next line on standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline().rstrip("\n")

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl+C; gives the exit code and what it said on standard error."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()  # to the end of what there is; nobody may close it meanwhile
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def tails() -> Iterator[list[Tail]]:
    running: list[Tail] = []
    yield running
    for tail in running:
        tail.close()


@pytest.fixture
def tail(tails: list[Tail]) -> Any:
    def start(*arguments: str) -> Tail:
        tails.append(Tail(*arguments))
        return tails[-1]

    return start


def test_the_newest_nodes_come_first_and_ctrl_c_ends_it_cleanly(tail: Any, database: TraceDatabase) -> None:
    row = database.request("0f9c7d41e2b04c0b", status="running")
    for number in range(4):
        database.node(row, f"n{number}", at_ms=number, context_id="[7]", total_tokens=1200)
    database.node(row, "now", status="running", at_ms=9)
    following = tail("-n", "2")
    assert following.line().split("  ")[1:] == ["0f9c7d41e2b0…", "rag › n3 [7]", "1.00 ms", "1,200 tokens"]
    assert following.line().endswith("rag › now  running")
    assert following.interrupt() == (0, "")


def test_a_workflow_in_another_process_is_followed_live(tail: Any, tmp_path: Path) -> None:
    following = tail("--json")
    assert following.complaint() == f"Waiting for {tmp_path / 'traces.db'}: nothing has been recorded there yet."
    go_on = threading.Event()

    @code_node
    def think(question: str) -> dict[str, Any]:
        go_on.wait(20)
        return {"answer": 42, "$usage": {"prompt_tokens": 3, "completion_tokens": 4}, "$tags": ["sure"]}

    def work() -> None:
        with LocalTracer().trace("flow", inputs={"q": 1}, request_id="live-1"):
            think("why?")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        started = [following.event(), following.event()]
        assert [(event["event"], event["node_name"]) for event in started] == [
            ("node_started", "flow"),
            ("node_started", "think"),
        ]
        assert started[1]["parent_name"] == "flow"
        assert started[1]["status"] == "running"
    finally:
        go_on.set()
        worker.join()
    ended = [following.event() for _ in range(3)]
    assert [event["event"] for event in ended] == ["node_ended", "node_ended", "request_ended"]
    assert (ended[0]["node_name"], ended[0]["total_tokens"]) == ("think", 7)
    assert (ended[2]["request_id"], ended[2]["status"], ended[2]["tags"]) == ("live-1", "completed", ["sure"])
    assert following.interrupt() == (0, "")


def test_an_error_and_the_end_of_a_request_are_lines_of_their_own(tail: Any, database: TraceDatabase) -> None:
    row = database.request("r1", status="running", duration_ms=None, tags=["vip"])
    database.node(row, "first")
    following = tail("--tag", "vip")
    assert following.line().endswith("rag › first  1.00 ms")
    database.node(row, "n", error="ValueError: no\x1b[2J\ntraceback", status="error")
    assert following.line().endswith("rag › n  error  1.00 ms  ValueError: no\\x1b[2J")
    database.connection.execute("UPDATE request SET status = 'failed', end_ns = start_ns + 5000000, error = 'Oh: no'")
    assert following.line().endswith("  rag  failed  5.00 ms  2 nodes  Oh: no")


def test_only_what_meets_the_conditions_is_followed(tail: Any, database: TraceDatabase) -> None:
    for name in ("chat", "rag"):
        database.node(database.request(name, workflow_name=name), name)
    following = tail("--workflow", "chat", "--json")
    assert following.event()["node_name"] == "chat"
    database.node(database.request("rag2", workflow_name="rag"), "no")
    database.node(database.request("chat2", workflow_name="chat"), "yes")
    assert following.event()["node_name"] == "yes"


def test_a_database_of_a_newer_hush_ends_it_with_a_message(tail: Any, database: TraceDatabase) -> None:
    database.connection.execute("PRAGMA user_version = 99")
    following = tail()
    assert following.process.wait(20) == 1
    assert "upgrade hush-core" in following.process.stderr.read()


def test_watching_costs_next_to_nothing(tail: Any, database: TraceDatabase) -> None:
    database.node(database.request("r"), "n")
    following = tail()
    following.line()

    def cpu_s() -> float:
        fields = Path(f"/proc/{following.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc")
    before = cpu_s()
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        time.sleep(0.1)  # the passing of time is what is measured
    assert cpu_s() - before <= 0.06  # of 2 s
