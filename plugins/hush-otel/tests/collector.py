"""A collector on this machine that answers as it is told, and keeps the spans of what it was sent, decoded."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from backend import Answer, Server
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

_PROTOBUF: Final = {"Content-Type": "application/x-protobuf"}
#: What a collector answers that has taken all: a message without a field has no byte.
TAKEN: Final = Answer(200, _PROTOBUF)


def rejecting(spans: int, message: str) -> Answer:
    """A success, and so many spans that were not taken."""
    partial = ExportTracePartialSuccess(rejected_spans=spans, error_message=message)
    return Answer(200, _PROTOBUF, ExportTraceServiceResponse(partial_success=partial).SerializeToString())


class Export(NamedTuple):
    """One POST that arrived."""

    headers: Mapping[str, str]
    body: bytes
    request: Any  #: an ExportTraceServiceRequest

    @property
    def spans(self) -> list[Any]:
        return spans_of(self.request)


def spans_of(request: Any) -> list[Any]:
    return [span for of in request.resource_spans for scope in of.scope_spans for span in scope.spans]


def value_of(value: Any) -> Any:
    """An AnyValue as a plain one."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(message: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource; a name that is there twice fails."""
    names = [each.key for each in message.attributes]
    assert len(set(names)) == len(names)
    return {each.key: value_of(each.value) for each in message.attributes}


class Collector:
    """A collector in this process: a context manager."""

    def __init__(self, answer: Answer = TAKEN) -> None:
        self.answer = answer
        self.exports: list[Export] = []
        self._script: list[Answer] = []
        self._lock = threading.Lock()
        self._server = Server(0, self._take)
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.endpoint = f"{self.origin}/v1/traces"

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.end()

    def script(self, *answers: Answer) -> None:
        """What it answers next, one POST each; then again as `answer` says."""
        self._script += answers

    @property
    def spans(self) -> list[Any]:
        return [span for export in self.exports for span in export.spans]

    def _take(self, headers: Mapping[str, str], body: bytes) -> Answer:
        encoding = next((value for name, value in headers.items() if name.lower() == "content-encoding"), None)
        plain = gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding else body
        request = ExportTraceServiceRequest.FromString(plain)
        with self._lock:
            self.exports.append(Export(headers, body, request))
            return self._script.pop(0) if self._script else self.answer
