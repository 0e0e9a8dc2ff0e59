"""The bytes are those that OpenTelemetry's own encoder makes of the same spans; and any request becomes some."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

import hush_core
from hush_core import NodeData
from hush_otel.encoding import encode
from hush_otel.mapping import Span, to_spans

from .collector import attributes_of, spans_of
from .made import node, request, root

RESOURCE = {"service.name": "tests", "n": 1, "share": 0.5, "flag": True}


def context(trace_id: bytes, span_id: bytes, flags: int = 0, state: str = "", remote: bool = False) -> SpanContext:
    numbers = int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big")
    return SpanContext(*numbers, remote, TraceFlags(flags), TraceState.from_header([state]) if state else None)


def as_sdk(span: Span) -> ReadableSpan:
    """The span as the SDK has it, to be encoded by the SDK's encoder."""
    remote = span.is_parent_remote
    parent = None if span.parent_span_id is None else context(span.trace_id, span.parent_span_id, remote=remote)
    return ReadableSpan(
        span.name,
        context(span.trace_id, span.span_id),
        parent,
        Resource(RESOURCE),
        attributes=span.attributes,
        events=[Event(each.name, each.attributes, each.time_ns) for each in span.events],
        links=[Link(context(each.trace_id, each.span_id, remote=True)) for each in span.links],
        kind=SpanKind(span.kind - 1),
        status=Status(StatusCode(span.status), span.message or None),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=InstrumentationScope("hush", hush_core.__version__),
    )


def test_the_sdks_encoder_makes_the_same_of_the_same_spans() -> None:
    error = "ValueError: no\nTraceback (most recent call last):\n  here"
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    spans = to_spans(
        request(
            root(input_data={"traceparent": parent}),
            node("answer", 1, node_type="llm", model="m", prompt_tokens=3, cost_usd=0.5, output_data="yes"),
            node("fails", 2, status="error", error=error),
            node("called", 3, parent_span_id="00000000000000bb"),
            tags=["a", "b"],
        )
    )
    ours = ExportTraceServiceRequest.FromString(encode(spans, RESOURCE))
    assert ours == encode_spans([as_sdk(span) for span in spans])


def test_a_link_keeps_its_flags_and_its_state() -> None:
    parent = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b"}
    [span] = spans_of(ExportTraceServiceRequest.FromString(encode(to_spans(request(root(metadata=parent))), RESOURCE)))
    [link] = span.links
    assert (link.flags, link.trace_state) == (0x301, "a=b")


def test_requests_one_after_the_other_are_one_export_of_all() -> None:
    parts = [encode(to_spans(request(root(span_id=f"{n:016x}"))), RESOURCE) for n in range(1, 4)]
    exported = ExportTraceServiceRequest.FromString(b"".join(parts))
    assert [span.span_id[-1] for span in spans_of(exported)] == [1, 2, 3]
    assert all(attributes_of(of.resource) == RESOURCE for of in exported.resource_spans)


# -- any request ------------------------------------------------------------------------------------------------------

texts = st.text(st.characters(), max_size=20)  # lone surrogates, too
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
messages = st.fixed_dictionaries({"messages": st.lists(st.fixed_dictionaries({"role": texts, "content": json_values}))})
answers = st.fixed_dictionaries(
    {"choices": st.lists(st.fixed_dictionaries({"message": st.dictionaries(texts, texts)}))}
)
times = st.none() | texts | st.datetimes().map(lambda when: f"{when.isoformat(timespec='microseconds')}Z")
numbers = st.none() | st.integers() | st.floats()
nodes: st.SearchStrategy[NodeData] = st.builds(
    node,
    st.none() | texts,
    st.integers(1, 2**64 - 1),
    parent_span_id=st.none() | st.just("00000000000000aa"),
    node_type=st.none() | texts | st.sampled_from(["llm", "tool", "agent", "embedding", "iteration", "workflow"]),
    context_id=st.none() | texts,
    execution_order=st.none() | st.integers(),
    start_time=times,
    end_time=times,
    status=st.sampled_from(["ok", "error", "interrupted", "running"]),
    level=st.none() | texts,
    error=st.none() | texts,
    input_data=json_values | messages,
    output_data=json_values | answers,
    metadata=json_values,
    media=json_values,
    model=st.none() | texts,
    prompt_tokens=numbers,
    completion_tokens=numbers,
    total_tokens=numbers,
    cached_tokens=numbers,
    reasoning_tokens=numbers,
    cost_usd=numbers,
    time_to_first_token_ms=numbers,
    contain_generation=st.booleans(),
)
requests = st.builds(
    request,
    st.just(root()),
    nodes,
    request_id=texts,
    workflow_name=st.none() | texts,
    user_id=st.none() | texts,
    session_id=st.none() | texts,
    tags=st.lists(texts, max_size=3),
    start_time=times,
    end_time=times,
)


@settings(deadline=None)  # the machine is shared
@given(requests, st.booleans())
def test_any_request_becomes_spans_of_which_none_is_missing(made: Any, content: bool) -> None:
    spans = to_spans(made, content=content)
    decoded = spans_of(ExportTraceServiceRequest.FromString(encode(spans, RESOURCE)))
    assert [span.span_id.hex() for span in decoded] == [each["span_id"] for each in made["nodes"]]
    for before, after in zip(spans, decoded, strict=True):
        assert attributes_of(after) == {
            name: list(value) if isinstance(value, list) else value for name, value in before.attributes.items()
        }
        assert 0 <= after.start_time_unix_nano <= after.end_time_unix_nano
