"""Where both ways of delivering send to: takes every export over OTLP/HTTP, answers at once, counts the spans later."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept open as an exporter's session does."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: what has arrived is counted."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []


class Sink:
    """Receives in a thread of its own process."""

    def __init__(self) -> None:
        self._server = _Server()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"

    def counted(self) -> dict[str, int]:
        """The spans that have arrived since the last call, and the exports and bytes they came in."""
        bodies, self._server.bodies = self._server.bodies, []
        spans = 0
        for body in bodies:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans += sum(len(of_scope.spans) for of_scope in of_resource.scope_spans)
        return {"spans": spans, "exports": len(bodies), "bytes": sum(map(len, bodies))}

    def close(self) -> None:
        self._server.shutdown()


def make(folder: Path) -> Sink:
    return Sink()
