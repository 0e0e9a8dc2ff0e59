"""The writer's socket: apps ring it, commands ask it things. One line of JSON each way; a ring says nothing at all."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from hush_core.interrupt import is_interrupt
from hush_core.system import is_doomed, listener_of

_PATH_BYTES_MAX: Final = 100  # sun_path holds 108 bytes on Linux, 104 on macOS
_DESCRIPTORS: Final = "/proc/self/fd"
_REQUEST_BYTES_MAX: Final = 1024 * 1024
#: What a socket's buffer holds besides the message: the system counts its own bookkeeping in.
_ROOM_BYTES: Final = 64 * 1024
#: How long the writer rests when it has no descriptor for another connection, seconds.
_NO_DESCRIPTOR_S: Final = 0.05
#: How long who waits for an answer rests when the writer's queue is full, seconds.
_QUEUE_FULL_S: Final = 0.005
DOORBELL: Final = "doorbell"

#: Is given a request, and gives the answer; None: there is none.
Handler = Callable[[dict[str, Any]], dict[str, Any] | None]


def doorbell_path(directory: Path) -> Path:
    return directory / DOORBELL


class _ShortPath:
    """A name for a socket that fits in sun_path, however deep the directory: by way of an open descriptor of it.

    Or of a symbolic link, where the system has no names for descriptors (macOS).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._link = ""

    def __enter__(self) -> str:
        if len(os.fsencode(self._path)) <= _PATH_BYTES_MAX:
            return str(self._path)
        if os.path.isdir(_DESCRIPTORS):
            self._fd = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            return f"{_DESCRIPTORS}/{self._fd}/{self._path.name}"
        # Of a name that nobody can know before; and it fails where there is anything of that name.
        link = f"/tmp/hush-{os.urandom(8).hex()}"
        os.symlink(self._path.parent.absolute(), link)
        self._link = link
        return f"{link}/{self._path.name}"

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        if self._link:
            os.unlink(self._link)


def connect(directory: Path, timeout_s: float) -> socket.socket:
    """A connection to the writer. Raises OSError when none listens (FileNotFoundError, ConnectionRefusedError).

    With a timeout of 0 it never waits: a writer whose queue is full raises BlockingIOError, and it is awake then
    anyway. With another, one whose queue stays full raises TimeoutError.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        deadline = time.monotonic() + timeout_s
        with _ShortPath(doorbell_path(directory)) as name:
            while True:
                try:
                    connection.connect(name)
                    return connection
                except BlockingIOError as problem:  # at once, whatever the timeout
                    if is_interrupt(problem) or not timeout_s:
                        raise
                    if time.monotonic() >= deadline:
                        raise TimeoutError(f"the writer had no ear for anybody within {timeout_s:g} s") from problem
                time.sleep(_QUEUE_FULL_S)
    except BaseException:
        connection.close()
        raise


def ring(directory: Path) -> bool:
    """Wake the writer; waits for nothing. False if nobody listens, or one that has been killed and has not died yet."""
    try:
        with connect(directory, 0.0) as connection:
            writer = listener_of(connection)
            return not (writer and is_doomed(writer))
    except OSError as problem:
        if is_interrupt(problem):
            raise
        return isinstance(problem, BlockingIOError)  # its queue is full: it is awake, and busy


def hand_in(directory: Path, messages: list[bytes], timeout_s: float = 0.0) -> bool:
    """Give the writer the first of these lines that its socket takes whole, and wait for no answer. False if it takes
    none at once. Raises OSError when none listens.
    """
    deadline = time.monotonic() + timeout_s
    for message in messages:
        if len(message) < _REQUEST_BYTES_MAX:
            left_s = max(deadline - time.monotonic(), 0.0) if timeout_s else 0.0
            try:
                with connect(directory, left_s) as connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, len(message) + _ROOM_BYTES)
                    connection.sendall(message)
                return True
            except (BlockingIOError, TimeoutError) as problem:
                if is_interrupt(problem):
                    raise
    return False


def ask(directory: Path, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask the writer and wait for its answer. Raises OSError if it does not listen or does not answer in time."""
    with connect(directory, timeout_s) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            chunk = connection.recv(65536)
            if not chunk:
                raise ConnectionResetError("the writer ended before it answered")
            answer += chunk
    reply = json.loads(answer)
    return reply if isinstance(reply, dict) else {}


class Doorbell:
    """The listening side. `wait` sleeps until somebody rings, asks, or a watched descriptor is ready."""

    def __init__(self, directory: Path, handler: Handler) -> None:
        self._path = doorbell_path(directory)
        self._handler = handler
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._requests: dict[socket.socket, bytes] = {}
        self.open()

    def open(self) -> None:
        """Listen. Only the elected writer may call it: it takes the place of a dead writer's socket."""
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with _ShortPath(self._path) as name:
            listener.bind(name)
        os.chmod(self._path, 0o600)
        self._inode = os.stat(self._path).st_ino
        listener.listen(128)
        listener.setblocking(False)
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def stay_open(self) -> None:
        """Listen anew if nobody can find it any more: its name was deleted, or is another's."""
        if self._listener is not None and not self._has_its_name():
            self.close()
            self.open()

    def _has_its_name(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def leave(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Stop listening: the next ring finds nobody and starts another writer. First, ``hear`` all that was sent until
        now. Nobody is answered: who waits asks the next writer; but who handed something in takes it for taken.
        """
        listener = self._listener
        if listener is None:
            return
        self._unlink()
        self._selector.unregister(listener)
        self._listener = None  # for those who hear, and may see to it that it listens
        with listener:
            # From here on nobody gets in, and nobody who is in can send: then what is there is all.
            _shut(listener)
            self._accept(listener)
            for connection in list(self._requests):
                self._read_all(connection, hear)
                _shut(connection)  # which on macOS throws away what was not read
                self._read_all(connection, hear)
        self.close()

    def _read_all(self, connection: socket.socket, handler: Handler) -> None:
        while self._read(connection, handler):
            pass

    def close(self) -> None:
        """Stop listening, and hang up."""
        if self._listener is not None:
            self._unlink()
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None
        for connection in list(self._requests):
            self._hang_up(connection)

    def _unlink(self) -> None:
        if self._has_its_name():  # where the folder was deleted and made again, it is the next writer's
            self._path.unlink(missing_ok=True)

    def _hang_up(self, connection: socket.socket) -> None:
        if self._requests.pop(connection, None) is not None:
            self._selector.unregister(connection)
            connection.close()

    def watch(self, fd: int) -> None:
        """Also wake when this descriptor is readable."""
        self._selector.register(fd, selectors.EVENT_READ)

    def unwatch(self, fd: int) -> None:
        self._selector.unregister(fd)

    def wait(self, timeout_s: float) -> tuple[bool, list[int]]:
        """Sleep until something happens or the time is over: whether somebody rang or asked, and which watched
        descriptors are ready.
        """
        events = self._selector.select(timeout_s)
        ready = []
        for key, _ in events:
            if key.fileobj is self._listener:
                self._accept(self._listener)
            elif isinstance(key.fileobj, socket.socket):
                self._read(key.fileobj, self._handler)
            else:
                ready.append(key.fd)
        return len(events) > len(ready), ready

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:
                time.sleep(_NO_DESCRIPTOR_S)  # no descriptor is left: the call waits in the queue until one is
                return
            connection.setblocking(False)
            self._requests[connection] = b""
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket, handler: Handler) -> bool:
        """Read on, and hand what is whole to the handler. False if there was nothing to read."""
        if connection not in self._requests:  # a handler that waited meanwhile has served it, or it was hung up
            return False
        try:
            chunk = connection.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        request = self._requests[connection] = self._requests[connection] + chunk
        if chunk and not request.endswith(b"\n") and len(request) < _REQUEST_BYTES_MAX:
            return True
        self._selector.unregister(connection)
        del self._requests[connection]
        with connection:
            if request:
                self._answer(connection, request, handler)
        return True

    def _answer(self, connection: socket.socket, request: bytes, handler: Handler) -> None:
        try:
            parsed = json.loads(request)
            reply = handler(parsed if isinstance(parsed, dict) else {})
        except (ValueError, RecursionError) as problem:
            reply = {"error": f"the writer takes one line of JSON: {problem}"}
        if reply is None:
            return
        try:
            connection.setblocking(True)
            connection.settimeout(1.0)
            connection.sendall(json.dumps(reply).encode() + b"\n")
        except OSError:
            pass  # who asked has gone; nothing is lost with the answer


def _shut(end: socket.socket) -> None:
    """Nobody can send to it any more."""
    with contextlib.suppress(OSError):  # who sent has gone
        end.shutdown(socket.SHUT_RD)
