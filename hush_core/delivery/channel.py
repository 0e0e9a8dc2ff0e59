"""The process's end of the connection with its writer.

When the writer is gone, so is this process, in that instant, whatever the tracer is doing: its delivery is somebody
else's by then, and a process that went on would deliver it twice. A thread of its own waits for that; and where it
cannot run, because the tracer keeps the interpreter for itself, the system kills the process (on Linux).
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from typing import Final

import msgspec

from hush_core.delivery.protocol import Begun, Outcome, Settled, Setup, ToProcess, ToWriter, Work, line, split_lines
from hush_core.delivery.protocol import to_process as decode
from hush_core.errors import HushError

_BUFFER_BYTES: Final = 64 * 1024


class ProtocolError(HushError):
    """The writer said what this version of hush does not understand."""


class Channel:
    """Messages from and to the writer. One thread sends; `next_work` gives what another has received."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.settimeout(None)
        self._socket.set_inheritable(False)
        self._received = bytearray()
        self._works: queue.SimpleQueue[Work | Exception] = queue.SimpleQueue()
        self._unsent = b""
        self.is_in_child = False  #: this process is a child that the tracer forked: it must not go on as its parent
        os.register_at_fork(after_in_child=self._leave_to_parent)

    def read_setup(self) -> Setup | None:
        """The first message; None when the writer is gone already. Before `start`."""
        while True:
            data = self._socket.recv(_BUFFER_BYTES)
            if not data:
                return None
            self._received += data
            lines = split_lines(self._received)
            if lines:
                setup, *works = map(_decoded, lines)
                for work in works:
                    self._put(work)
                if not isinstance(setup, Setup):
                    raise ProtocolError(f"The writer began with {type(setup).__name__}, not with Setup.")
                return setup

    def start(self) -> None:
        """From here on, the end of the writer is the end of this process."""
        threading.Thread(target=self._receive, name="hush-channel", daemon=True).start()

    def next_work(self) -> Work:
        """Wait for work. Raises ProtocolError for a message that cannot be understood."""
        work = self._works.get()
        if isinstance(work, Exception):
            raise work
        return work

    def settle(self, outcomes: list[Outcome]) -> None:
        """Attempts are over. Sent with the next message, or by `push`: before a tracer is called again at the latest.

        When that returns, the outcomes reach the writer, whatever becomes of this process.
        """
        if outcomes:
            self._unsent += line(Settled(outcomes))

    def begin(self, deliveries: list[int]) -> None:
        """The tracer gets these next; what it had before is forgotten. When this returns, the writer will know."""
        self.send(Begun(deliveries))

    def send(self, message: ToWriter) -> None:
        """Send a message, after what is unsent. Ends this process if the writer is gone."""
        self._unsent += line(message)
        self.push()

    def push(self) -> None:
        """Send what is unsent."""
        if self._unsent:
            try:
                self._socket.sendall(self._unsent)
            except OSError:
                os._exit(0)  # also when the tracer has closed all descriptors: nobody would learn what it does
            self._unsent = b""

    def _receive(self) -> None:
        buffer = bytearray(_BUFFER_BYTES)  # one for ever: it works where the tracer has used up the memory
        while True:
            try:
                count = self._socket.recv_into(buffer)
                if not count:
                    os._exit(0)
                self._received += buffer[:count]
                for text in split_lines(self._received):
                    self._put(_decoded(text))
            except OSError:
                os._exit(0)
            except Exception as problem:
                self._works.put(problem)

    def _put(self, message: ToProcess) -> None:
        self._works.put(message if isinstance(message, Work) else ProtocolError("The writer said Setup twice."))

    def _leave_to_parent(self) -> None:
        """In a child that the tracer forked: the writer must see the end of the parent, whatever the child does."""
        self.is_in_child = True
        self._socket.close()


def _decoded(text: bytes) -> ToProcess:
    try:
        message: ToProcess = decode(text)
        return message
    except msgspec.MsgspecError as problem:
        raise ProtocolError(f"The writer, of another version of hush perhaps, sent {text[:200]!r}: {problem}") from None
