"""What a body says beside a status of success."""

from __future__ import annotations

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from hush_core import ConfigurationFlushError, PermanentFlushError
from hush_otel.answer import read_answer

PROTOBUF = "application/x-protobuf"


def protobuf(rejected: int, message: str) -> bytes:
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PROTOBUF, b""),
        (PROTOBUF, protobuf(0, "")),
        ("", b""),
        ("text/html", b""),
        ("application/json", b"{}"),
        ("application/json; charset=utf-8", b'{"partialSuccess": {}}'),
        ("application/json", b'{"partialSuccess": null}'),
    ],
)
def test_all_was_taken(kind: str, body: bytes) -> None:
    assert read_answer(kind, body, 10) is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (PROTOBUF, protobuf(3, "too old")),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}'),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": 3, "errorMessage": "too old"}}'),
    ],
)
def test_a_part_that_was_rejected_is_noted_and_not_sent_again(kind: str, body: bytes) -> None:
    assert read_answer(kind, body, 10) == "3 of 10 spans rejected: too old"


def test_what_was_rejected_whole_is_not_delivered() -> None:
    with pytest.raises(PermanentFlushError, match="3 of 3 spans rejected: too old"):
        read_answer(PROTOBUF, protobuf(3, "too old"), 3)


def test_a_warning_is_noted() -> None:
    assert read_answer(PROTOBUF, protobuf(0, "deprecated"), 3) == "warning: deprecated"


@pytest.mark.parametrize(
    ("kind", "body"),
    [("text/html; charset=utf-8", b"Sign in"), ("", b"\n <!doctype html><title>Sign in"), ("text/xml", b"<a/>")],
)
def test_a_page_is_no_success(kind: str, body: bytes) -> None:
    with pytest.raises(ConfigurationFlushError, match=r"no OTLP backend sends.*Check the tracer's endpoint"):
        read_answer(kind, body, 3)


@pytest.mark.parametrize(
    ("kind", "body", "note"),
    [
        ("text/plain", b"ok", "answered with text/plain: ok"),
        ("", b"ok", "answered with no content type: ok"),
        (PROTOBUF, b"ok", "whether all was taken is not known: the answer is no ExportTraceServiceResponse"),
        ("application/json", b"[", "whether all was taken is not known: the answer is not what OTLP says: ["),
        (
            "application/json",
            b'{"partialSuccess": {"rejectedSpans": "many"}}',
            'whether all was taken is not known: the answer is not what OTLP says: {"partialSuccess": '
            '{"rejectedSpans": "many"}}',
        ),
    ],
)
def test_another_answer_is_noted(kind: str, body: bytes, note: str) -> None:
    assert read_answer(kind, body, 3) == note
