"""A delivery process as the writer sees it: started as its app was, listened to without waiting, ended for sure."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from hush_core.delivery.protocol import Setup, ToWriter, Work, line, split_lines, to_writer

#: Runs in the delivery process, with the app's `sys.path` in the place of its own. `-c`, since `-m` would look for
#: hush_core where that interpreter has it installed, and not where the app found it.
_BOOT: Final = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import json; "
    "fd, sys.path[:] = int(sys.argv[1]), json.loads(sys.argv[2]); sys.argv[1:] = []; "
    "from hush_core.delivery.worker import main; sys.exit(main(fd))"
)
_READ_BYTES: Final = 256 * 1024
#: How long to wait for a process that ends, or was killed, to be gone, before it is left to a later look, seconds.
_GONE_S: Final = 0.5


class Origin(msgspec.Struct):
    """Where requests come from, as their app recorded it: what a delivery process is started with."""

    executable: str = sys.executable
    path: list[str] = []
    cwd: str | None = None
    config: str | None = None

    @classmethod
    def read(cls, text: str | None) -> Origin:
        """From the JSON text of the store; the writer's own where nothing is known."""
        found = msgspec.json.decode(text) if text else {}
        known = found if isinstance(found, dict) else {}
        return cls(
            executable=_path(known.get("executable")) or sys.executable,
            path=[_path(entry) for entry in known.get("path") or ()] or list(sys.path),
            cwd=_path(known.get("cwd")) or None,
            config=_path(known.get("config")) or None,
        )


def _path(value: Any) -> str:
    """A path as it was recorded: text, or its bytes where they are no text."""
    if isinstance(value, dict):
        return os.fsdecode(base64.b64decode(value.get("$bytes", "")))
    return value if isinstance(value, str) else ""


class DeliveryProcess:
    """A running delivery process. Nothing here waits for it but `end`: most often some milliseconds, at the longest a
    second, when the system is slow to end what was killed.

    :param origin: the interpreter, `sys.path`, working folder and settings of the app.
    :param variables: its environment.

    Raises OSError when it cannot be started: FileNotFoundError when its interpreter is gone.
    """

    def __init__(self, setup: Setup, origin: Origin, variables: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._received = bytearray()
        self._unsent = bytearray()
        self._has_ended = False
        environment = dict(variables)
        if origin.config is not None and os.path.isfile(origin.config):  # else as if there had been none
            environment["HUSH_CONFIG"] = origin.config
        folder = origin.cwd if origin.cwd is not None and os.path.isdir(origin.cwd) else Path(setup.db_path).parent
        try:
            self._process = subprocess.Popen(
                [origin.executable, "-c", _BOOT, str(theirs.fileno()), json.dumps(origin.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # whatever it starts is in its process group, and ends with it
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self.send(setup)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def fd(self) -> int:
        """Readable when it has said something, or has ended."""
        return self._socket.fileno()

    def send(self, message: Setup | Work) -> None:
        """Give it something to do. One that reads no more has ended, or is about to: `receive` notices."""
        self._unsent += line(message)
        self._send_on()

    def _send_on(self) -> None:
        """Send what the socket takes now; the rest goes with the next look."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()  # it has ended, or is about to; what it said before is to be read still

    def receive(self) -> list[ToWriter]:
        """What it has said since the last call. What makes no sense is taken for its end."""
        self._send_on()
        while not self._has_ended:
            try:
                chunk = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                self._has_ended = True
            self._received += chunk
        try:
            return [to_writer(said) for said in split_lines(self._received)]
        except msgspec.DecodeError:
            self._has_ended = True
            return []

    def has_ended(self) -> bool:
        """Whether it is gone, or listens no more. A child that it forked may hold its socket: ask the system."""
        try:
            return self._has_ended or self._has_exited()
        except ChildProcessError:
            return True

    def _has_exited(self) -> bool:
        """Whether only its exit status is left of it, which is not taken here."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def log_where_it_is(self) -> None:
        """Have it write to its log where each of its threads is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR1)

    def end(self) -> str:
        """Kill it and all that it started. Gives how it had ended, in words: "ended with signal 11 (SIGSEGV)"."""
        # Its socket closes some moments before it is gone, and how it ended is the reason that its deliveries get.
        # It is not reaped before its group is killed: until then nobody else can get its number.
        deadline = time.monotonic() + (_GONE_S if self._has_ended else 0.0)
        while not (exited := self._has_exited()) and time.monotonic() < deadline:
            time.sleep(0.001)
        self._kill_group()
        self._socket.close()
        deadline = time.monotonic() + _GONE_S
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)  # SIGKILL takes effect when the system comes to it
        if not exited:
            return "was ended"
        code = self._process.returncode
        return f"ended with signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"

    def let_go(self) -> None:
        """Let it end by itself: it has nothing to do, and sees that its socket is closed."""
        self._socket.close()

    def is_gone(self) -> bool:
        """Whether it has been reaped, and with it what it started: neither a zombie nor a tracer's child is left."""
        if self._process.returncode is None and self._has_exited():
            self._kill_group()  # before it is reaped: see `end`
        return self._process.poll() is not None

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
