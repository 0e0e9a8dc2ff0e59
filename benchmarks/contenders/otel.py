"""The OpenTelemetry SDK as it is usually set up: a BatchSpanProcessor; the exporter counts spans and drops them.

A span holds what a node holds: structures as JSON text, since an attribute can be nothing else. What the network and
the serialisation for it cost comes on top, and is not in these figures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from benchmarks.contender import Contender
from benchmarks.workload import CODE_NODE, END_NS, START_NS, WORKFLOW, call_nodes, insert_nodes, score

#: Above what a run can leave in the queue, so that no span is dropped for want of room, which would make it cheaper.
_QUEUE_SPANS: Final = 1 << 17


class NullExporter(SpanExporter):
    """Counts the spans and forgets them."""

    def __init__(self) -> None:
        self.spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += len(spans)
        return SpanExportResult.SUCCESS


class OpenTelemetry(Contender):
    """A span per node, with the node's fields as attributes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._exporter = NullExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter, max_queue_size=_QUEUE_SPANS))
        self._tracer = self._provider.get_tracer("benchmarks")
        self._counted = 0

    def insert_node_trace(
        self,
        request_id: str,
        workflow_name: str,
        node_name: str,
        parent_name: str | None,
        context_id: str | None,
        execution_order: int,
        start_time: Any,
        end_time: Any,
        duration_ms: float | None,
        input_data: dict[str, Any] | None,
        output_data: dict[str, Any] | None,
        model: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        total_tokens: int | None = None,
        cost_usd: float | None = None,
        contain_generation: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        attributes: dict[str, Any] = {
            "request_id": request_id,
            "workflow_name": workflow_name,
            "parent_name": parent_name,
            "execution_order": execution_order,
            "input": json.dumps(input_data),
            "output": json.dumps(output_data),
        }
        if contain_generation:
            attributes["gen_ai.request.model"] = model
            attributes["gen_ai.usage.input_tokens"] = prompt_tokens
            attributes["gen_ai.usage.output_tokens"] = completion_tokens
            attributes["gen_ai.usage.total_tokens"] = total_tokens
            attributes["cost_usd"] = cost_usd
            attributes["metadata"] = json.dumps(metadata)
        # The times are given ready made, not as the ISO strings that the others have to carry.
        span = self._tracer.start_span(node_name, attributes=attributes, start_time=START_NS)
        span.end(END_NS)

    def run(self, workload: str, calls: int, run: str) -> int:
        if workload != CODE_NODE:
            insert_nodes(workload, self.insert_node_trace, calls, run)
            return calls
        with self._tracer.start_as_current_span(WORKFLOW):
            call_nodes(self._decorated(run), calls)
        return calls + 1

    def _decorated(self, request_id: str) -> Any:
        """`score` with a span around it that says what a hush node says."""
        start = self._tracer.start_as_current_span

        def traced(question: str, k: int) -> dict[str, Any]:
            attributes = {
                "request_id": request_id,
                "workflow_name": WORKFLOW,
                "node_type": "code",
                "input": json.dumps({"question": question, "k": k}),
            }
            with start("score", attributes=attributes) as span:
                result = score(question, k)
                span.set_attribute("output", json.dumps(result))
                return result

        return traced

    def hand_over(self) -> None:
        self._provider.force_flush()

    def arrived(self, records: int) -> int:
        arrived = self._exporter.spans - self._counted
        self._counted = self._exporter.spans
        return arrived

    def close(self) -> None:
        self._provider.shutdown()


def make(folder: Path) -> OpenTelemetry:
    return OpenTelemetry(folder)
