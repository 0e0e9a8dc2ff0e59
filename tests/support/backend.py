"""A backend on this machine that answers as it is told, and keeps an exact account of what it has accepted.

It takes lines of JSON, as the example plugin posts them. What it accepts is on record before it answers.
`backend_process` is the same as a process of its own.
"""

from __future__ import annotations

import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, NamedTuple

import msgspec
import xxhash
from ports import free_port

_HOW = Literal["answer", "close", "reset", "hang", "trickle", "trickle body"]


class Answer(NamedTuple):
    """What the backend does with one POST."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    how: _HOW = "answer"
    takes: float = 0.0  #: the share of the lines that it accepts, the first ones, rounded up

    def share_of(self, lines: int) -> int:
        return math.ceil(lines * self.takes)


OK: Final = Answer(200, takes=1.0)
UNAUTHORIZED: Final = Answer(401, body=b"invalid key")
NOT_FOUND: Final = Answer(404)
REFUSED: Final = Answer(400, body=b"a line is not what it should be")
BROKEN: Final = Answer(500, body=b"internal error")
UNAVAILABLE: Final = Answer(503)
MOVED: Final = Answer(302, {"Location": "http://127.0.0.1:9/elsewhere"})
CLOSES: Final = Answer(how="close")
RESETS: Final = Answer(how="reset")
HANGS: Final = Answer(how="hang")
TRICKLES: Final = Answer(how="trickle")
TRICKLES_ITS_ERROR: Final = Answer(500, how="trickle body")
TAKES_HALF_THEN_FAILS: Final = Answer(500, takes=0.5)
TAKES_HALF_THEN_CLOSES: Final = Answer(how="close", takes=0.5)
TAKES_ALL_THEN_CLOSES: Final = Answer(how="close", takes=1.0)


def throttled(retry_after: object = None) -> Answer:
    """429, with Retry-After if given: seconds, or an HTTP date."""
    return Answer(429, {} if retry_after is None else {"Retry-After": str(retry_after)})


class _Node(msgspec.Struct):
    span_id: str


class _Request(msgspec.Struct):
    request_id: str
    trace_id: str
    nodes: list[_Node]


_decode: Final = msgspec.json.Decoder(_Request).decode


class Line(NamedTuple):
    """One request as it arrived."""

    request_id: str
    trace_id: str
    span_ids: tuple[str, ...]
    digest: str  #: of the whole line: a retry is byte for byte the same


class Post(NamedTuple):
    """One POST, and what was done with it."""

    at: float  #: time.monotonic()
    headers: Mapping[str, str]
    lines: list[Line]
    body: bytes
    answer: Answer
    accepted: int  #: how many of the lines, from the first on


def read_lines(body: bytes) -> list[Line]:
    found = []
    for text in body.splitlines():
        request = _decode(text)
        spans = tuple([node.span_id for node in request.nodes])
        found.append(Line(request.request_id, request.trace_id, spans, xxhash.xxh3_64_hexdigest(text)))
    return found


class _Handler(BaseHTTPRequestHandler):
    """One connection: reads a POST, has it put on record, answers."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.take(dict(self.headers), body)
        if answer.how == "answer":
            self._say(answer, answer.body)
            return
        self.close_connection = True
        if answer.how == "reset":
            # No lingering: closing sends a reset instead of an end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif answer.how == "hang":
            self.server.over.wait()
        elif answer.how == "trickle":
            self._trickle(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"s" * 600)
        elif answer.how == "trickle body":
            self._say(answer._replace(headers={"Content-Length": "600"}), b"")
            self._trickle(b"." * 600)

    def _say(self, answer: Answer, body: bytes) -> None:
        headers = {"Content-Length": str(len(body)), **answer.headers}
        head = [f"HTTP/1.1 {answer.status} {'OK' if answer.status == 200 else 'Not OK'}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1") + body)

    def _trickle(self, said: bytes) -> None:
        """A byte a second, until the backend is over."""
        for byte in said:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(1.0):
                return

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: the account is what counts."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int, take: Callable[[Mapping[str, str], bytes], Answer]) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.take = take
        self.over = threading.Event()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        with suppress(OSError):
            # Not `shutdown` first, as the base does: a reset is to stay one.
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # else the client is gone: it had no more patience, or died
            super().handle_error(request, client_address)

    def end(self) -> None:
        """Listen no more, and close what is open, whatever is under way."""
        self.over.set()
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


class Backend:
    """A backend in this process: a context manager. Any thread may read the account and change the answers.

    :param answer: what it answers: always the same, or as a function of the POST's lines says.
    """

    def __init__(self, answer: Answer | Callable[[list[Line]], Answer] = OK) -> None:
        self.posts: list[Post] = []
        self._script: list[Answer] = []
        self._lock = threading.Lock()
        self.answer = answer
        self.port = free_port()
        self._server: Server | None = Server(self.port, self._take)

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/ingest"

    def script(self, *answers: Answer) -> None:
        """What it answers next, one POST each; then again as `answer` says."""
        self._script += answers

    def die(self) -> None:
        """Close everything, as if the machine were gone: what connects is refused."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    def come_back(self) -> None:
        """On the same port."""
        self._server = Server(self.port, self._take)

    @property
    def accepted(self) -> list[Line]:
        """Every line that it accepted, each as often as it was, in order."""
        with self._lock:
            return [line for post in self.posts for line in post.lines[: post.accepted]]

    @property
    def ids(self) -> set[str]:
        """The requests that it accepted."""
        return {line.request_id for line in self.accepted}

    def _take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        lines = read_lines(body)
        with self._lock:
            answer = self._script.pop(0) if self._script else self.answer
            if not isinstance(answer, Answer):
                answer = answer(lines)
            accepted = answer.share_of(len(lines))
            self.posts.append(Post(time.monotonic(), headers, lines, body, answer, accepted))
        return answer
