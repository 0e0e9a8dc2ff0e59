"""A delivery process as the writer has one: a real process, and the writer's end of its socket."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from hush_core.delivery.protocol import (
    Begun,
    Job,
    Outcome,
    Ready,
    Settled,
    Setup,
    ToWriter,
    Unusable,
    Work,
    line,
    split_lines,
    to_writer,
)  # fmt: skip

_BOOT = (
    "import json, sys; fd, sys.path[:] = int(sys.argv[1]), json.loads(sys.argv[2]); sys.argv[1:] = []; "
    "from hush_core.delivery.worker import main; sys.exit(main(fd))"
)
TIMEOUT_S = 20.0


class Worker:
    """One delivery process. `left` kills it and what it started."""

    def __init__(
        self,
        db_path: Path,
        target: str,
        *,
        config: dict[str, Any] | None = None,
        name: str = "prod",
        kind: str | None = None,
        memory_bytes: int | None = None,
        variables: dict[str, str] | None = None,
        path: Iterable[str] = (),
    ) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(TIMEOUT_S)
        self._received = bytearray()
        self._messages: list[ToWriter] = []
        self.begun: list[list[int]] = []  #: what it said it began, in order
        self.settled: list[list[Outcome]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps([*path, *sys.path])],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(variables or {})},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
        theirs.close()
        self.pid = self.process.pid
        setup = Setup(
            db_path=str(db_path),
            tracer_name=name,
            tracer_type=kind or target.rpartition(":")[2],
            target=target,
            config=config or {},
            memory_bytes=memory_bytes,
        )
        self.socket.sendall(line(setup))

    def receive(self) -> ToWriter | None:
        """The next message; None when it has ended."""
        while not self._messages:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            except TimeoutError:
                pytest.fail(f"the delivery process said nothing for {TIMEOUT_S} s")
            if not data:
                return None
            self._received += data
            self._messages = [to_writer(each) for each in split_lines(self._received)]
        message = self._messages.pop(0)
        if isinstance(message, Begun):
            self.begun.append(message.ids)
        elif isinstance(message, Settled):
            self.settled.append(message.outcomes)
        return message

    def ready(self) -> Worker:
        message = self.receive()
        assert isinstance(message, Ready), message
        return self

    def unusable(self) -> str:
        """Why it cannot serve; it must end with that."""
        message = self.receive()
        assert isinstance(message, Unusable), message
        assert self.ended() == 1
        return message.error

    def send(self, requests: Iterable[int], attempt: int = 1) -> list[int]:
        """Give it deliveries, one for each request's row; gives their ids: 1000 more than the row's."""
        jobs = [Job(1000 + row, row, attempt) for row in requests]
        self.socket.sendall(line(Work(jobs)))
        return [job.id for job in jobs]

    def work(self, requests: Iterable[int], attempt: int = 1) -> list[Outcome]:
        """Give it deliveries, and wait for the outcomes, in the order of the deliveries."""
        ids = self.send(requests, attempt)
        found: dict[int, Outcome] = {}
        while not found.keys() >= set(ids):
            message = self.receive()
            assert message is not None, f"it ended with status {self.ended()}; settled: {found}"
            if isinstance(message, Settled):
                found |= {outcome.id: outcome for outcome in message.outcomes}
        return [found[id] for id in ids]

    def kinds(self, requests: Iterable[int]) -> list[str]:
        return [outcome.kind for outcome in self.work(requests)]

    def ended(self) -> int:
        """Its exit status, negative for a signal; it must end by itself."""
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the delivery process did not end within {TIMEOUT_S} s")

    def let_go(self) -> float:
        """Close the writer's end, as its death does; gives the seconds until the process was gone."""
        began = time.monotonic()
        self.socket.close()
        self.ended()
        return time.monotonic() - began

    def left(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.socket.close()
        self.process.wait(TIMEOUT_S)


class Workers:
    """Starts delivery processes of the odd tracers. Their configuration names the files `kept` and `calls`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept = folder / "kept"
        self.calls = folder / "calls"
        self.started: list[Worker] = []

    def unready(self, tracer: str, *, config: dict[str, Any] | None = None, **more: Any) -> Worker:
        target = tracer if ":" in tracer or not tracer else f"odd_tracers:{tracer}"
        config = {"file": str(self.kept), "calls": str(self.calls), **(config or {})}
        worker = Worker(self.folder / "traces.db", target, config=config, **more)
        self.started.append(worker)
        return worker

    def __call__(self, tracer: str, **more: Any) -> Worker:
        return self.unready(tracer, **more).ready()

    def log(self, name: str = "prod") -> str:
        return (self.folder / "traces.db.journal" / f"delivery-{name}.log").read_text()


def alive(pid: int) -> bool:
    """Whether a process runs: neither gone, nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
