"""What a span costs the app: hush's processor beside the SDK's own BatchSpanProcessor, in one run, interleaved.

`python plugins/hush-otel/benchmarks/way_in.py [SPANS]`. Figures are CPU microseconds of one span, over what it costs
with a processor that does nothing: of the thread that makes the spans (`on_start` and `on_end`), and of the whole
process until everything is flushed. The batch processor's exporter encodes for OTLP, and throws the bytes away. hush
has every record in its journal when `on_end` returns, and no thread; what its writer does is another process's.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

ROUNDS = 9
NODES = 20  # of one trace
BATCH = 2000  # spans between two flushes: what the queue of the batch processor holds
#: About 2.5 KB, as an instrumented client of a model's API leaves it.
MESSAGES = [{"role": "user" if at % 2 else "assistant", "content": "why is the sky blue? " * 12} for at in range(4)]
CALL = {
    "openinference.span.kind": "LLM",
    "llm.system": "openai",
    "llm.model_name": "gpt-4o",
    "llm.invocation_parameters": json.dumps({"temperature": 0.2, "max_tokens": 100}),
    "input.value": json.dumps({"model": "gpt-4o", "messages": MESSAGES}),
    "input.mime_type": "application/json",
    "output.value": json.dumps({"choices": [{"message": {"role": "assistant", "content": "because " * 60}}]}),
    "output.mime_type": "application/json",
    "llm.token_count.prompt": 120,
    "llm.token_count.completion": 30,
    "llm.token_count.total": 150,
    **{f"llm.input_messages.{at}.message.{key}": text for at, m in enumerate(MESSAGES) for key, text in m.items()},
}
SMALL = {"question": "why?", "count": 3}


class Nothing(SpanProcessor):
    """The floor: what the SDK takes for a span by itself."""


class NowhereExporter(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


def measure(provider: TracerProvider, attributes: dict[str, object], count: int) -> tuple[float, float]:
    """CPU microseconds of each of so many spans: of this thread, and of the process."""
    tracer = provider.get_tracer("bench")
    mine, all_ = time.thread_time_ns(), time.process_time_ns()
    waited = 0
    for at in range(count // NODES):
        with tracer.start_as_current_span("request"):
            for _ in range(NODES - 1):
                span = tracer.start_span("call")
                span.set_attributes(attributes)  # type: ignore[arg-type]
                span.end()
        if (at + 1) * NODES % BATCH == 0:
            before = time.thread_time_ns()
            provider.force_flush()
            waited += time.thread_time_ns() - before
    spans = count // NODES * NODES
    return (time.thread_time_ns() - mine - waited) / 1e3 / spans, (time.process_time_ns() - all_) / 1e3 / spans


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    folder = tempfile.mkdtemp()
    os.environ["HUSH_TRACES_DB"] = os.path.join(folder, "traces.db")
    from hush_core import shutdown_background
    from hush_otel import HushSpanProcessor

    providers = {}
    for name, processor in (
        ("nothing", Nothing()),
        ("batch", BatchSpanProcessor(NowhereExporter())),
        ("hush", HushSpanProcessor("local")),
    ):
        providers[name] = TracerProvider(shutdown_on_exit=False)
        providers[name].add_span_processor(processor)
    for what, attributes in (("small", SMALL), ("llm", CALL)):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in providers}
        for round_ in range(ROUNDS + 1):
            for name, provider in providers.items():
                each = measure(provider, dict(attributes), count)
                if round_:  # the first warms up
                    found[name].append(each)
        thread, process = (
            {name: statistics.median(each[at] for each in figures) for name, figures in found.items()} for at in (0, 1)
        )
        print(f"{what}: a span by itself {thread['nothing']:.1f} us")
        for name in ("batch", "hush"):
            of_thread, of_process = thread[name] - thread["nothing"], process[name] - process["nothing"]
            print(f"  {name:6} {of_thread:6.1f} us in the thread that makes it, {of_process:6.1f} us in the process")
    shutdown_background(60)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
