"""What the plugin's tests stand on: a home and a database of their own, a request as hush hands it over, a backend."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hush_core import FlushData


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests is read or written."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "traces.db"))
    monkeypatch.delenv("HUSH_CONFIG", raising=False)
    monkeypatch.delenv("HUSH_PLUGINS", raising=False)
    monkeypatch.delenv("HUSH_BLOCK_PLUGINS", raising=False)
    monkeypatch.chdir(tmp_path)
    return folder


def node(name: str, total_tokens: int | None = None, node_type: str | None = None) -> dict[str, Any]:
    return {"node_name": name, "span_id": "b7ad6b7169203331", "total_tokens": total_tokens, "node_type": node_type}


@pytest.fixture
def request_data() -> Callable[..., FlushData]:
    """Makes a request as `flush` is given it, with these values in the place of the usual ones."""

    def make(request_id: str = "r-1", config: dict[str, Any] | None = None, **values: Any) -> FlushData:
        made: Any = {
            "request_id": request_id,
            "trace_id": "0af7651916cd43dd8448eb211c80319c",
            "workflow_name": "geography",
            "user_id": None,
            "session_id": None,
            "tags": ["prod"],
            "tracer_name": "lines",
            "tracer_type": "JsonLinesTracer",
            "tracer_config": config or {},
            "status": "completed",
            "start_time": "2025-01-31T12:00:00.000000Z",
            "end_time": "2025-01-31T12:00:01.000000Z",
            "attempt": 1,
            "nodes": [node("geography"), node("answer", 28)],
            **values,
        }
        return made

    return make


class Heard(NamedTuple):
    """A POST that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


class Backend(HTTPServer):
    """Answers every POST with its status and headers, and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer_headers: dict[str, str] = {}
        self.heard: list[Heard] = []
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Backend

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append(Heard(self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.answer_headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
