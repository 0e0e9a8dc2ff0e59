"""Spans as the bytes of an OTLP export request, with the messages that OpenTelemetry's own exporters use.

Not through `ReadableSpan` and the SDK's encoder: they copy and check each attribute once more, which is three times the
work, and one that they cannot encode they leave out. The test of this module compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags

from hush_core import __version__
from hush_otel.mapping import Link, Span
from hush_otel.plain import Value

SCOPE: Final = "hush"
#: That a parent is of the same process is known, and not left open. The lower eight bits are W3C's flags.
_LOCAL: Final = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE: Final = _LOCAL | SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def encode(spans: Iterable[Span], resource: Mapping[str, Value]) -> bytes:
    """An export request of these spans. Several of them, one after the other, are an export request of all."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    _add_attributes(of_resource.resource.attributes, resource)
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = SCOPE
    of_scope.scope.version = __version__
    add: Any = of_scope.spans.add  # its messages are built by the name of their fields, thousands of them
    for span in spans:
        message = add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            name=span.name,
            kind=span.kind,
            start_time_unix_nano=span.start_ns,
            end_time_unix_nano=span.end_ns,
            flags=_REMOTE if span.is_parent_remote else _LOCAL,
        )
        if span.parent_span_id is not None:
            message.parent_span_id = span.parent_span_id
        _add_attributes(message.attributes, span.attributes)
        for event in span.events:
            of_event = message.events.add(name=event.name, time_unix_nano=event.time_ns)
            _add_attributes(of_event.attributes, event.attributes)
        for link in span.links:
            _add_link(message.links, link)
        if span.status:
            message.status.code = span.status
            if span.message:
                message.status.message = span.message
    return request.SerializeToString()


def _add_attributes(to: Any, attributes: Mapping[str, Value]) -> None:
    add = to.add
    for name, value in attributes.items():
        any_value = add(key=name).value
        kind = type(value)
        if kind is str:
            any_value.string_value = value
        elif kind is bool:
            any_value.bool_value = value
        elif kind is int:
            any_value.int_value = value
        elif kind is float:
            any_value.double_value = value
        else:
            _add_list(any_value, value)


def _add_list(any_value: Any, value: Any) -> None:
    values = any_value.array_value.values
    for each in value:
        values.add(string_value=each)


def _add_link(to: Any, link: Link) -> None:
    to.add(trace_id=link.trace_id, span_id=link.span_id, trace_state=link.state, flags=_REMOTE | link.flags)
