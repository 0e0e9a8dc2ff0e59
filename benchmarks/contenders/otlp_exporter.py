"""The SDK's own way to a backend: a BatchSpanProcessor and the OTLP/HTTP exporter, with the spans that hush sends.

`deliver` begins where an app does, with `start_span`: nothing else brings a span to the processor. `export` leaves that
out: the same spans, made before the clock starts, so that only what the processor and the exporter do is in the figure.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from benchmarks.contender import Stored
from hush_core.delivery.flush_data import Tracer, build, load
from hush_core.store.queries.reader import open_reader
from hush_otel.mapping import Span, to_spans

#: Above what is measured at once, so that no span is dropped for want of room.
_QUEUE_SPANS: Final = 1 << 17
_RESOURCE: Final = Resource({"service.name": "hush"})
_SCOPE: Final = InstrumentationScope("hush", "0")


class OtlpExporter:
    """Sends the spans of a database, as often as it is asked to."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def take(self, workload: str, db_path: str) -> int:
        """Have the spans of a workload ready. Gives how many there are."""
        self._spans = []
        with open_reader(Path(db_path)) as reader:
            rows = reader.execute("SELECT id FROM request WHERE request_id LIKE ? || '-%'", (workload,)).fetchall()
            for (row,) in rows:
                found = load(reader, row)
                assert found is not None
                data = build(*found, Tracer("bench", "OTelTracer", {}))
                self._spans += to_spans(data)
        return len(self._spans)

    def deliver(self, workload: str, endpoint: str) -> Stored:
        """Time from the start of the first span until the last is exported. The sink counts."""
        processor = _processor(endpoint)
        provider = TracerProvider(resource=_RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        start_span = provider.get_tracer("benchmarks").start_span

        def make() -> None:
            for span in self._spans:
                start_span(
                    span.name, attributes=span.attributes, kind=SpanKind(span.kind - 1), start_time=span.start_ns
                ).end(span.end_ns)

        return self._measured(processor, make)

    def export(self, workload: str, endpoint: str) -> Stored:
        """Time from the end of the first span until the last is exported."""
        processor, ready = _processor(endpoint), [_as_sdk(span) for span in self._spans]

        def hand_over() -> None:
            for span in ready:
                processor.on_end(span)

        return self._measured(processor, hand_over)

    def _measured(self, processor: BatchSpanProcessor, run: Callable[[], None]) -> Stored:
        gc.collect()
        begin, cpu_begin = perf_counter_ns(), process_time_ns()
        run()
        processor.force_flush(120_000)
        seconds, cpu_ns = (perf_counter_ns() - begin) / 1e9, process_time_ns() - cpu_begin
        processor.shutdown()
        return {"records": len(self._spans), "seconds": seconds, "cpu_ns": cpu_ns}

    def close(self) -> None:
        """Nothing to end."""


def _processor(endpoint: str) -> BatchSpanProcessor:
    return BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=_QUEUE_SPANS)


def _as_sdk(span: Span) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id),
        None if span.parent_span_id is None else _context(span.trace_id, span.parent_span_id),
        _RESOURCE,
        attributes=span.attributes,
        kind=SpanKind(span.kind - 1),
        status=Status(StatusCode(span.status)),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace_id: bytes, span_id: bytes) -> SpanContext:
    # Sampled, or the processor takes none of it.
    return SpanContext(
        int.from_bytes(trace_id, "big"), int.from_bytes(span_id, "big"), False, TraceFlags(TraceFlags.SAMPLED)
    )


def make(folder: Path) -> OtlpExporter:
    return OtlpExporter()
