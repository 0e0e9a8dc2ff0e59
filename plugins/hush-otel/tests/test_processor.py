"""The spans of a provider are recorded by hush as they begin and end, whole and with their ids, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from disk import files_below
from interrupting import Interrupt, Timeout
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context
from waiting import wait_until

import hush_otel
from hush_core import (
    ConfigError,
    LocalTracer,
    StoreError,
    UnknownTracerError,
    code_node,
    get_store,
    shutdown_background,
)
from hush_otel import HushSpanProcessor
from hush_otel.tracer import OTelTracer

from .collector import Collector

REMOTE_TRACE, REMOTE_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests here, so that they need one writer; ids are random, so none meets another's requests."""
    return tmp_path_factory.mktemp("processor") / "traces.db"


@pytest.fixture(autouse=True)
def recorded_there(home: Path, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUSH_TRACES_DB", str(database))


def provider(processor: HushSpanProcessor | None = None, **more: Any) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False, **more)
    made.add_span_processor(processor or HushSpanProcessor("local"))
    return made


@pytest.fixture
def tracer() -> trace.Tracer:
    return provider().get_tracer("app")


def request_of(span: trace.Span | ReadableSpan) -> Any:
    """The stored request that a span was the first of."""
    context = span.get_span_context()
    assert get_store().sync(20)
    found = f"{context.trace_id:032x}"
    parent = getattr(span, "parent", None)
    return get_store().get_request(found if parent is None else f"{found}-{context.span_id:016x}")


def remote(trace_id: int = REMOTE_TRACE, span_id: int = REMOTE_SPAN) -> contexts.Context:
    """A context as it comes with a call from another process."""
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(1))))


def tree(request: Any) -> list[tuple[str, str | None]]:
    names = {node.id: node.node_name for node in request.nodes}
    return [(node.node_name, names.get(node.parent_id)) for node in request.nodes]


# -- one trace is one request -----------------------------------------------------------------------------------------


def test_a_trace_is_a_request_and_its_spans_are_the_nodes(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("answer", attributes={"session.id": "s", "tag.tags": ["vip"]}) as root:
        with tracer.start_as_current_span("search") as search:
            search.set_attribute("openinference.span.kind", "RETRIEVER")
            tracer.start_span("query").end()
        with tracer.start_as_current_span("chat") as chat:
            chat.set_attributes({"gen_ai.request.model": "gpt-4o", "gen_ai.usage.total_tokens": 7, "user.id": "u"})
    request = request_of(root)
    assert tree(request) == [("answer", None), ("search", "answer"), ("query", "search"), ("chat", "answer")]
    assert [node.node_type for node in request.nodes] == ["span", "retriever", "span", "llm"]
    assert (request.workflow_name, request.status, request.tags) == ("answer", "completed", ["vip"])
    assert (request.user_id, request.session_id, request.total_tokens) == ("u", "s", 7)
    assert [(each.tracer_name, each.status) for each in request.deliveries] == [("LocalTracer", "flushed")]
    assert [node.parent_name for node in request.nodes] == [None, "answer", "search", "answer"]


def test_times_are_the_spans_own(tracer: trace.Tracer) -> None:
    span = tracer.start_span("then", start_time=1_000_000_000)
    span.end(end_time=3_500_000_000)
    request = request_of(span)
    assert (request.start_time, request.duration_ms) == ("1970-01-01T00:00:01.000000Z", 2500.0)
    assert [node.duration_ms for node in request.nodes] == [2500.0]


def test_what_runs_is_visible_with_what_it_was_given(tracer: trace.Tracer) -> None:
    given = {"input.value": "why?", "metadata": '{"k": 1}'}
    with tracer.start_as_current_span("answer") as root, tracer.start_as_current_span("chat", attributes=given):
        running = request_of(root)
    assert running.status == "running"
    assert [(node.node_name, node.status) for node in running.nodes] == [("answer", "running"), ("chat", "running")]
    assert (running.nodes[1].input_data, running.nodes[1].metadata["k"]) == ("why?", 1)
    assert [node.status for node in request_of(root).nodes] == ["ok", "ok"]


def test_the_input_that_the_start_has_said_is_there_once_and_a_later_one_counts(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("a", attributes={"input.value": "why?"}) as same:
        pass
    with tracer.start_as_current_span("b", attributes={"input.value": "why?"}) as other:
        other.set_attribute("input.value", "why not?")
    assert [request_of(span).nodes[0].input_data for span in (same, other)] == ["why?", "why not?"]


def test_a_first_span_that_failed_fails_the_request(tracer: trace.Tracer) -> None:
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("answer") as root:
        raise ValueError("no")
    request = request_of(root)
    assert (request.status, request.error) == ("failed", "ValueError: no")
    assert request.nodes[0].status == "error"
    assert request.nodes[0].error.startswith("ValueError: no\nTraceback (most recent call last):")


def test_a_span_that_failed_within_a_request_leaves_that_complete(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("answer") as root:
        inner = tracer.start_span("call")
        inner.set_status(Status(StatusCode.ERROR, "refused"))
        inner.end()
    request = request_of(root)
    assert (request.status, request.error_count) == ("completed", 1)
    assert request.nodes[1].error == "refused"


def test_the_tags_of_the_tracer_come_first() -> None:
    made = provider(HushSpanProcessor(LocalTracer(tags=["prod"])))
    span = made.get_tracer("app").start_span("answer", attributes={"tag.tags": ["vip", "prod"]})
    span.end()
    assert request_of(span).tags == ["prod", "vip"]


def test_a_span_that_ends_after_the_first_is_of_its_request(tracer: trace.Tracer) -> None:
    root = tracer.start_span("answer")
    late = tracer.start_span("stream", context=set_span_in_context(root))
    root.end()
    later = tracer.start_span("background", context=set_span_in_context(root))
    late.end()
    later.end()
    request = request_of(root)
    assert tree(request) == [("answer", None), ("stream", "answer"), ("background", "answer")]
    assert {node.status for node in request.nodes} == {"ok"}
    assert request.status == "completed"


def test_a_span_that_ends_twice_is_recorded_once() -> None:
    processor = HushSpanProcessor("local")
    span: Any = provider(processor).get_tracer("app").start_span("answer")
    span.end()
    processor.on_end(span)
    assert len(request_of(span).nodes) == 1


def test_without_start_records_a_span_is_recorded_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hush.toml").write_text("[capture]\nstart_records = false\n")
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "other.db"))
    tracer = provider().get_tracer("app")
    with tracer.start_as_current_span("answer", attributes={"input.value": "why?"}) as root:
        tracer.start_span("first").end()
        tracer.start_span("second").end()
        assert [node.node_name for node in request_of(root).nodes] == ["first", "second"]
    request = request_of(root)
    assert tree(request) == [("answer", None), ("first", "answer"), ("second", "answer")]
    assert request.nodes[0].input_data == "why?"


# -- where a request begins -------------------------------------------------------------------------------------------


def test_each_call_from_another_process_is_a_request_of_its_own(tracer: trace.Tracer) -> None:
    calls = [tracer.start_span("GET /", context=remote()) for _ in range(2)]
    for call in calls:
        tracer.start_span("work", context=set_span_in_context(call)).end()
        call.end()
    for call in calls:
        request = request_of(call)
        assert request.request_id.startswith(f"{REMOTE_TRACE:032x}-")
        assert tree(request) == [("GET /", None), ("work", "GET /")]
        assert request.status == "completed"


def test_a_call_to_itself_is_part_of_the_request(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("client") as client:
        said = client.get_span_context()
        tracer.start_span("server", context=remote(said.trace_id, said.span_id)).end()
    assert tree(request_of(client)) == [("client", None), ("server", "client")]


def test_below_a_span_that_is_not_recorded_a_request_begins() -> None:
    made = TracerProvider(shutdown_on_exit=False)
    tracer = made.get_tracer("app")
    with tracer.start_as_current_span("before"):
        made.add_span_processor(HushSpanProcessor("local"))
        with tracer.start_as_current_span("after") as after:
            tracer.start_span("inner").end()
    assert tree(request_of(after)) == [("after", None), ("inner", "after")]
    assert request_of(after).status == "completed"


def test_a_span_within_a_node_of_hush_is_of_a_request_of_its_own(tracer: trace.Tracer) -> None:
    found: list[trace.Span] = []

    @code_node
    def work() -> None:
        with tracer.start_as_current_span("inner") as span:
            found.append(span)

    with LocalTracer().trace("outer") as state:
        work()
    request = request_of(found[0])
    assert (request.workflow_name, len(request.nodes)) == ("inner", 1)
    assert len(get_store().get_request(state.request_id).nodes) == 2


class RecordedOnly(Sampler):
    """For processors that count spans: none of them is to be exported."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "recorded only"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordedOnly()])
def test_what_is_not_sampled_is_left_out(sampler: Sampler) -> None:
    tracer = provider(sampler=sampler).get_tracer("app")
    with tracer.start_as_current_span("not sampled"), tracer.start_as_current_span("inner"):
        pass
    sampled = provider().get_tracer("app").start_span("sampled")
    sampled.end()
    assert request_of(sampled).status == "completed"
    assert list(get_store().iter_requests(workflow="not sampled")) == []


# -- ids --------------------------------------------------------------------------------------------------------------


def ids(spans: Any) -> set[tuple[bytes, bytes, bytes]]:
    return {(each.trace_id, each.span_id, each.parent_span_id) for each in spans}


def own_ids(*spans: Any) -> set[tuple[bytes, bytes, bytes]]:
    return {
        (
            span.get_span_context().trace_id.to_bytes(16, "big"),
            span.get_span_context().span_id.to_bytes(8, "big"),
            b"" if span.parent is None else span.parent.span_id.to_bytes(8, "big"),
        )
        for span in spans
    }


def test_spans_reach_a_backend_with_the_ids_that_they_had(collector: Collector) -> None:
    destination = OTelTracer(endpoint=collector.endpoint)
    tracer = provider(HushSpanProcessor(destination)).get_tracer("app")
    with tracer.start_as_current_span("answer") as root:
        inner = [tracer.start_span(f"inner {number}") for number in range(20)]
        for span in inner:
            span.end()
    calls = [tracer.start_span("GET /", context=remote(REMOTE_TRACE + 1)) for _ in range(2)]
    for call in calls:
        call.end()
    assert destination.shutdown_worker(60)
    assert ids(collector.spans) == own_ids(root, *inner, *calls)
    assert len(collector.spans) == 23


# -- threads, tasks and processes -------------------------------------------------------------------------------------


def test_threads_and_tasks(tracer: trace.Tracer) -> None:
    def work(number: int) -> None:
        with tracer.start_as_current_span(f"work {number}"):
            tracer.start_span("part").end()

    async def task(number: int) -> None:
        with tracer.start_as_current_span(f"task {number}"):
            await asyncio.sleep(0)
            tracer.start_span("part").end()

    async def tasks() -> None:
        await asyncio.gather(*(task(number) for number in range(20)))

    with tracer.start_as_current_span("answer") as root:
        with ThreadPoolExecutor(8) as pool:
            for number in range(20):
                pool.submit(copy_context().run, work, number)
        asyncio.run(tasks())
    request = request_of(root)
    assert len(request.nodes) == 81
    parents = {node.id: node for node in request.nodes}
    for node in request.nodes[1:]:
        above = parents[node.parent_id]
        assert above.node_name == "answer" if node.node_name != "part" else above.node_name.startswith(("work", "task"))
    assert {node.status for node in request.nodes} == {"ok"}


def test_many_requests_at_once(tracer: trace.Tracer) -> None:
    roots: list[trace.Span] = []

    def requests() -> None:
        for _ in range(50):
            with tracer.start_as_current_span("answer") as root:
                tracer.start_span("inner").end()
            roots.append(root)

    threads = [threading.Thread(target=requests) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert get_store().sync(30)
    assert {(each.status, each.node_count) for each in map(request_of, roots)} == {("completed", 2)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_in_the_request_and_ends_only_what_began_in_it(tracer: trace.Tracer) -> None:
    with tracer.start_as_current_span("answer") as root:
        child = os.fork()
        if child == 0:
            with tracer.start_as_current_span("in the child"):
                tracer.start_span("part").end()
            root.end()  # as it unwinds
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        tracer.start_span("in the parent").end()
        wait_until(lambda: len(request_of(root).nodes) == 4, "what the child recorded")
        assert request_of(root).status == "running"
    request = request_of(root)
    assert sorted(map(str, tree(request))) == sorted(
        map(str, [("answer", None), ("in the child", "answer"), ("part", "in the child"), ("in the parent", "answer")])
    )
    assert {node.status for node in request.nodes} == {"ok"}
    assert (request.status, len(request.deliveries)) == ("completed", 1)


APP = """
import json, os, sys, threading, time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from hush_otel import HushSpanProcessor

provider = TracerProvider()
provider.add_span_processor(HushSpanProcessor("local"))
tracer = provider.get_tracer("app")
"""


def run(code: str) -> Any:
    done = subprocess.run([sys.executable, "-c", APP + code], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def test_a_process_that_is_killed_leaves_what_had_begun() -> None:
    code = """
with tracer.start_as_current_span("answer", attributes={"session.id": "s"}) as root:
    tracer.start_span("done").end()
    with tracer.start_as_current_span("chat", attributes={"input.value": "why?"}):
        print(f"{root.get_span_context().trace_id:032x}", flush=True)
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", APP + code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        request_id = child.stdout.readline().strip()
        os.kill(child.pid, signal.SIGKILL)

    def is_interrupted() -> bool:
        try:
            return get_store().get_request(request_id).status == "interrupted"
        except StoreError:  # not stored yet
            return False

    wait_until(is_interrupted, "the request to be interrupted")
    request = get_store().get_request(request_id)
    assert [(node.node_name, node.status) for node in request.nodes] == [
        ("answer", "interrupted"),
        ("done", "ok"),
        ("chat", "interrupted"),
    ]
    assert (request.session_id, request.nodes[2].input_data) == ("s", "why?")
    assert [(each.tracer_name, each.status) for each in request.deliveries] == [("LocalTracer", "flushed")]


def test_every_span_that_had_ended_survives_a_kill() -> None:
    code = """
for number in range(10_000):
    with tracer.start_as_current_span("answer") as root:
        tracer.start_span("inner").end()
    os.write(1, f"{root.get_span_context().trace_id:032x}\\n".encode())
"""
    with subprocess.Popen([sys.executable, "-c", APP + code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(500)]
        os.kill(child.pid, signal.SIGKILL)
        said += child.stdout.read().splitlines(keepends=True)
    ended = [line.strip() for line in said if line.endswith("\n")]

    def stored() -> dict[str, tuple[str, int]]:
        return {each.request_id: (each.status, each.node_count) for each in get_store().iter_requests(limit=None)}

    def are_whole() -> bool:
        found = stored()
        return {found.get(each) for each in ended} == {("completed", 2)}

    wait_until(are_whole, "all that had ended to be stored")


# -- it is a guest ----------------------------------------------------------------------------------------------------


def test_it_touches_no_global_provider_and_starts_no_thread_and_loads_no_exporter() -> None:
    assert run(
        """
before = threading.enumerate()
with tracer.start_as_current_span("answer"):
    pass
print(json.dumps({
    "provider": type(trace.get_tracer_provider()).__name__,
    "threads": len(threading.enumerate()),
    "loaded": [name for name in ("opentelemetry.exporter", "grpc", "requests", "sqlite3") if name in sys.modules],
}))
"""
    ) == {"provider": "ProxyTracerProvider", "threads": 1, "loaded": []}


def test_nothing_of_opentelemetry_is_loaded_by_the_plugin_for_those_who_only_deliver() -> None:
    code = """
import json, sys
import hush_otel
from hush_core import get_tracer
get_tracer("otel")
print(json.dumps([name for name in sys.modules if name.startswith("opentelemetry")]))
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_a_process_that_ends_waits_for_nothing() -> None:
    assert run(
        """
root = tracer.start_span("answer")
began = time.monotonic()
root.end()
provider.shutdown()
print(json.dumps(time.monotonic() - began < 2.0))
"""
    )


def test_after_its_shutdown_nothing_begins_and_what_is_open_may_end() -> None:
    processor = HushSpanProcessor("local")
    tracer = provider(processor).get_tracer("app")
    with tracer.start_as_current_span("answer") as root:
        processor.shutdown()
        tracer.start_span("too late").end()
    assert processor.force_flush(20_000)
    request = request_of(root)
    assert [(node.node_name, node.status) for node in request.nodes] == [("answer", "ok")]
    assert request.status == "completed"


def test_spans_that_nobody_holds_are_forgotten_ended_or_not() -> None:
    processor = HushSpanProcessor("local")
    tracer = provider(processor).get_tracer("app")
    for _ in range(100):
        with tracer.start_as_current_span("answer"):
            tracer.start_span("never ended")
    gc.collect()
    assert len(processor._known) == 0


def test_what_cannot_be_read_of_a_span_stops_neither_the_app_nor_the_record(
    tracer: trace.Tracer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("hush_otel.processor.to_fields", fail)
    with tracer.start_as_current_span("answer") as root, tracer.start_as_current_span("inner"):
        pass
    request = request_of(root)
    assert tree(request) == [("answer", None), ("inner", "answer")]
    assert request.status == "completed"
    assert [each.message.split(".")[0] for each in caplog.records] == [
        "hush: reading the attributes of a span failed: a bug"
    ]


def test_a_database_that_cannot_be_had_does_not_stop_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "file" / "traces.db"))
    processor = HushSpanProcessor("local")
    tracer = provider(processor).get_tracer("app")
    with tracer.start_as_current_span("answer"), tracer.start_as_current_span("inner"):
        pass
    processor.shutdown()
    (said,) = [each.message for each in caplog.records]
    assert said.startswith("hush: writing the journal in")


def test_what_a_signals_handler_raises_reaches_the_app_and_recording_goes_on(tracer: trace.Tracer) -> None:
    for instant in count(step=3):
        try:
            with Interrupt(instant, Timeout) as interrupt:
                tracer.start_span("answer").end()
        except Timeout:
            continue
        assert not interrupt.came
        break
    assert instant > 30
    with tracer.start_as_current_span("answer") as root:
        tracer.start_span("inner").end()
    request = request_of(root)
    assert (request.status, tree(request)) == ("completed", [("answer", None), ("inner", "answer")])


def test_a_mask_finds_its_keys_in_json_and_among_attributes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hush.toml").write_text('[mask]\nkeys = ["api_key", "http.request.header.cookie"]\n')
    monkeypatch.setenv("HUSH_TRACES_DB", str(tmp_path / "masked.db"))
    tracer = provider().get_tracer("app")
    with tracer.start_as_current_span("answer") as root:
        root.set_attributes(
            {
                "input.value": '{"api_key": "SECRET", "q": 1}',
                "input.mime_type": "application/json",
                "request": '[{"api_key": "SECRET"}]',
                "http.request.header.cookie": "SECRET",
            }
        )
    request = request_of(root)
    assert request.nodes[0].input_data == {"api_key": "[masked]", "q": 1}
    files = files_below(tmp_path)
    assert tmp_path / "masked.db" in files
    assert all(b"SECRET" not in content for content in files.values())


# -- whose requests they are ------------------------------------------------------------------------------------------


def test_the_tracer_is_one_by_name_or_the_default_or_itself(tmp_path: Path) -> None:
    (tmp_path / "hush.toml").write_text(
        'default = ["one", "two"]\n[tracers.one]\ntype = "local"\n[tracers.two]\ntype = "local"\n'
    )
    for chosen, names in ((None, ["one", "two"]), ("two", ["two"]), (LocalTracer(), ["LocalTracer"])):
        made: Any = chosen
        span = provider(HushSpanProcessor(made)).get_tracer("app").start_span("answer")
        span.end()
        assert sorted(each.tracer_name for each in request_of(span).deliveries) == names


def test_a_tracer_that_does_not_exist_is_an_error_at_once() -> None:
    with pytest.raises(UnknownTracerError):
        HushSpanProcessor("no such tracer")
    with pytest.raises(ConfigError, match="default"):
        HushSpanProcessor()
    with pytest.raises(ConfigError, match="takes a tracer"):
        HushSpanProcessor(OTelTracer)  # type: ignore[arg-type]


def test_the_public_name() -> None:
    assert hush_otel.__all__ == ["HushSpanProcessor"]
    assert hush_otel.HushSpanProcessor is HushSpanProcessor
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        hush_otel.Nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture(scope="module", autouse=True)
def stored_before_the_database_goes() -> Iterator[None]:
    yield
    shutdown_background(20)
