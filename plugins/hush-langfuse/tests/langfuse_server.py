"""A Langfuse on this machine: takes exports and media, answers as it is told, and keeps all that it heard."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, NamedTuple

TRACES_PATH: Final = "/api/public/otel/v1/traces"
MEDIA_PATH: Final = "/api/public/media"
BUCKET_PATH: Final = "/bucket/"


class Answer(NamedTuple):
    """What is done with one request."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}
    how: Literal["answer", "reset", "close", "hang", "trickle", "trickle body"] = "answer"


class Heard(NamedTuple):
    """A request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]  #: names in lower case
    raw: bytes
    connection: int  #: the port that it came from

    @property
    def body(self) -> bytes:
        return gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class LangfuseServer(ThreadingHTTPServer):
    """A context manager. `answers` is asked for each request what to do with it; None stands for what Langfuse does."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, path: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.path = path  #: where Langfuse is below the host
        self.heard: list[Heard] = []
        self.stored: dict[str, bytes] = {}  #: media by id, once they are complete
        self.answers: Callable[[Heard], Answer | None] = lambda heard: None
        self.over = threading.Event()
        self._uploaded: dict[str, bytes] = {}
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def __enter__(self) -> LangfuseServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.path}"

    # -- what it heard ------------------------------------------------------------------------------------------------

    @property
    def exports(self) -> list[Heard]:
        return self.calls("POST", TRACES_PATH)

    def calls(self, method: str, path: str) -> list[Heard]:
        """The requests whose path begins so."""
        return [heard for heard in self.heard if heard.method == method and heard.path.startswith(self.path + path)]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Every span that was sent, with its attributes as a dict."""
        return [read_span(span) for export in self.exports for span in spans_of(export.json)]

    # -- what it does -------------------------------------------------------------------------------------------------

    def take(self, heard: Heard) -> Answer:
        self.heard.append(heard)
        answer = self.answers(heard)
        return self._usual(heard) if answer is None else answer

    def _usual(self, heard: Heard) -> Answer:
        path = heard.path.removeprefix(self.path)
        if (heard.method, path) == ("POST", TRACES_PATH):
            return Answer()
        if (heard.method, path) == ("POST", MEDIA_PATH):
            media_id = heard.json["sha256Hash"].replace("+", "-").replace("/", "_")[:22]
            url = (
                None if media_id in self.stored else f"{self.url.removesuffix(self.path)}{BUCKET_PATH}{media_id}?key=1"
            )
            return Answer(201, json.dumps({"mediaId": media_id, "uploadUrl": url}).encode())
        if heard.method == "PUT" and heard.path.startswith(BUCKET_PATH):
            self._uploaded[heard.path.removeprefix(BUCKET_PATH).partition("?")[0]] = heard.raw
            return Answer(200, b"")
        if heard.method == "PATCH" and path.startswith(f"{MEDIA_PATH}/"):
            media_id = path.removeprefix(f"{MEDIA_PATH}/")
            if heard.json["uploadHttpStatus"] == 200:
                self.stored[media_id] = self._uploaded[media_id]
            return Answer(200, b"")
        return Answer(404, b'{"message": "not found"}')

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # else the client is gone: it had no more patience
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with suppress(OSError):
            request.close()  # not `shutdown` first, as the base does: a reset is to stay one


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: LangfuseServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.take(Heard(self.command, self.path, headers, body, self.client_address[1]))
        if answer.how == "answer":
            self._say(answer)
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
            self._say(answer._replace(headers={"Content-Length": "600"}, body=b""))
            self._trickle(b"." * 600)

    do_PUT = do_PATCH = do_POST

    def _say(self, answer: Answer) -> None:
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        head = [f"HTTP/1.1 {answer.status} Said", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.wfile.write("\r\n".join(head).encode("latin-1") + answer.body)

    def _trickle(self, said: bytes) -> None:
        """A byte every 50 ms, until the server is over."""
        for byte in said:
            self.wfile.write(bytes([byte]))
            if self.server.over.wait(0.05):
                return

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


# -- reading what was sent --------------------------------------------------------------------------------------------


def spans_of(export: Any) -> list[dict[str, Any]]:
    [resource] = export["resourceSpans"]
    [scope] = resource["scopeSpans"]
    spans: list[dict[str, Any]] = scope["spans"]
    return spans


def read_span(span: dict[str, Any]) -> dict[str, Any]:
    return {**span, "attributes": read_attributes(span["attributes"])}


def read_attributes(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """As a dict; a key that is there twice is an error."""
    read = {each["key"]: read_value(each["value"]) for each in attributes}
    assert len(read) == len(attributes), "an attribute is there twice"
    return read


def read_value(value: dict[str, Any]) -> Any:
    [(kind, said)] = value.items()
    if kind == "arrayValue":
        return [read_value(item) for item in said["values"]]
    return int(said) if kind == "intValue" else said
