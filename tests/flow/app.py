"""An app as users run it: a process of its own with the public names only; and what it must leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from waiting import wait_until

import hush_core
from hush_core.background.doorbell import connect

from ..conftest import running_processes, writers_under
from ..crash.history import check_whole, totals

#: What an app begins with. Without a blank line inside a block, so that a REPL can read it.
PRELUDE: Final = '''\
import os, signal, sys, threading, time
from hush_core import LocalTracer, code_node, get_store

@code_node
def work(n):
    return {"doubled": n * 2}

def answer(request_id, *numbers):
    """One request with a node for each number."""
    with LocalTracer().trace("flow", request_id=request_id):
        for n in numbers:
            work(n)

'''
#: Records of `answer` besides those of its nodes: the request's start and completion, its root's start and end.
_RECORDS_OF_REQUEST: Final = 4
_DEADLINE_S: Final = 60.0
#: "A few seconds after the last producer ended": the writer stays for two, and the machine is shared.
_FEW_S: Final = 10.0
#: For what a machine that is busy has to get to.
_PATIENCE_S: Final = 30.0


class Node(NamedTuple):
    """A stored node of `work`, or the root."""

    name: str
    parent: str | None
    n: int | None
    status: str


class Request(NamedTuple):
    """A stored request; its nodes sorted."""

    status: str
    nodes: list[Node]


def whole(*numbers: int, status: str = "completed", root: str = "ok") -> Request:
    """What must be stored of `answer(request_id, *numbers)`."""
    return Request(status, [Node("flow", None, None, root), *(Node("work", "flow", n, "ok") for n in sorted(numbers))])


class App:
    """Starts processes of one app, in a folder, on a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "traces.db"
        self._running: list[subprocess.Popen[str]] = []

    def script(self, text: str, name: str = "app.py") -> str:
        """A file with the prelude and a text. Gives its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PRELUDE + textwrap.dedent(text))
        return str(path)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": python_path()}

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        """Start Python with these arguments, in a session of its own, as a terminal would."""
        more.setdefault("cwd", self.folder)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=more.pop("stdin", subprocess.PIPE),
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**self.environment(), **more.pop("env", {})},
            **more,
        )
        self._running.append(process)
        return process

    def line(self, process: subprocess.Popen[str]) -> str:
        """The next line that it says; fails if it ends without one.

        Reads not a byte further. `readline` reads ahead, and neither `finish` nor `communicate` gives what it has read.
        """
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(process.stdout.fileno(), 1)
            if not byte:
                _, errors = process.communicate(timeout=_DEADLINE_S)
                pytest.fail(f"the app ended after {line!r}:\n{errors}")
            line += byte
        return line.decode()

    def finish(self, process: subprocess.Popen[str], stdin: str | None = None, *, status: int = 0) -> str:
        """Wait until it has ended and nobody holds its output any more. Gives its standard output.

        Fails if it ended otherwise, or if hush had anything to report.
        """
        out, errors = process.communicate(stdin, timeout=_DEADLINE_S)
        assert process.returncode == status, errors
        assert "hush: " not in errors, errors
        return out

    def run(self, *arguments: str, stdin: str | None = None, **more: Any) -> str:
        """Start Python with these arguments, and wait until it has ended well."""
        return self.finish(self.start(*arguments, **more), stdin)

    def kill(self) -> None:
        """End whatever of it a failed test has left running."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            with process:
                pass

    def writers(self) -> list[int]:
        """The process ids of the writers, without the shells that keep them running."""
        return [pid for pid, argv in self._background() if "/bin/sh" not in argv]

    def shells(self) -> list[int]:
        """The process ids of the shells that start a killed writer again."""
        return [pid for pid, argv in self._background() if "/bin/sh" in argv]

    def _background(self) -> list[tuple[int, str]]:
        inside = f"hush_core.background {self.folder.resolve()}/"
        return [(pid, argv) for pid, argv in running_processes() if inside in argv]

    def writer_answers(self) -> bool:
        try:
            connect(Path(f"{self.database}.journal"), 1.0).close()
        except OSError:
            return False
        return True

    def wait_for_writer(self, *, other_than: int = 0, timeout_s: float = _PATIENCE_S) -> int:
        """Wait until a writer answers. Gives its process id."""
        found: list[int] = []

        def answers() -> bool:
            found[:] = self.writers()
            return len(found) == 1 and found[0] != other_than and self.writer_answers()

        wait_until(answers, "one writer to answer", timeout_s)
        return found[0]

    def wait_until_stored(self, request_id: str, request: Request, timeout_s: float = _PATIENCE_S) -> None:
        """Wait until a request is in the database as it should be."""
        wait_until(lambda: self.stored().get(request_id) == request, f"{request_id} to be stored", timeout_s)

    def stored(self) -> dict[str, Request]:
        try:
            return stored(self.database)
        except sqlite3.OperationalError:  # not made yet
            return {}

    def wait_for_end(self) -> None:
        """Wait until nothing of it runs any more, writer included."""
        wait_until(lambda: not leftovers(self.folder), "every process of the app to end by itself", _FEW_S)

    def check(self, requests: dict[str, Request], database: Path | None = None) -> None:
        """It has ended: exactly these requests are stored, all is accounted for, and no process is left."""
        self.wait_for_end()
        path = database or self.database
        check_whole(path)
        assert stored(path) == requests
        nodes = sum(len(request.nodes) - 1 for request in requests.values())
        assert totals(path) == {"records_stored": _RECORDS_OF_REQUEST * len(requests) + 2 * nodes}


def python_path() -> str:
    """Where a process that is started elsewhere finds this hush_core."""
    return os.pathsep.join([str(Path(hush_core.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])


def leftovers(folder: Path) -> list[int]:
    """The processes that the app in a folder has started, directly or not: they have the test's home in common."""
    if not Path("/proc/self/environ").exists():
        return writers_under(folder)
    mark = f"HOME={folder}/home\0".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                if mark in Path("/proc", entry, "environ").read_bytes():
                    found.append(int(entry))
    return found


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stored(database: Path) -> dict[str, Request]:
    """Every request in a database."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # both from the same moment
        requests = {key: Request(status, []) for key, status in connection.execute(
            "SELECT request_id, status FROM request ORDER BY request_id"
        )}  # fmt: skip
        for key, name, parent, status, text in connection.execute(
            "SELECT request_id, node_name, parent_name, node.status, input_data FROM node"
            " JOIN request ON request.id = node.request LEFT JOIN node_payload ON node_payload.node = node.id"
        ):
            given = None if text is None else json.loads(text)
            requests[key].nodes.append(Node(name, parent, given["n"] if given else None, status))
    for request in requests.values():
        request.nodes.sort(key=lambda node: (node.name, -1 if node.n is None else node.n))
    return requests
