"""hush finds the plugin by its entry point; the app stays light; and a workflow's request arrives."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from waiting import wait_until

from hush_core import BaseTracer, get_registered_tracers, get_tracer
from hush_otel.tracer import OTelTracer

from .collector import Collector, attributes_of, rejecting
from .tap import Tap

WORKFLOW = """
import sys
from hush_core import code_node, get_tracer

@code_node(node_type="llm", model="gpt-4o")
def answer(question):
    return {"content": "Paris", "$usage": {"prompt_tokens": 7, "completion_tokens": 1}, "$cost": 0.5}

tracer = get_tracer()
with tracer.trace("geography", request_id="r-1", inputs="where?", session_id="s-1", tags=["vip"]) as state:
    for _ in state.loop(range(2)):
        answer("What is the capital of France?")
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def settings(text: str) -> None:
    Path("hush.toml").write_text(f'default = ["prod"]\n[tracers.prod]\ntype = "otel"\n{text}')


def test_the_tracer_is_found_by_its_name() -> None:
    assert get_registered_tracers()["otel"] is OTelTracer
    made: BaseTracer = get_tracer("otel", endpoint="http://localhost:4318/v1/traces", tags=["prod"])
    assert isinstance(made, OTelTracer)
    assert made.tags == ["prod"]


def test_a_request_goes_from_a_workflow_to_a_receiver() -> None:
    with Tap() as tap:
        settings(f'endpoint = "{tap.endpoint}"\nservice_name = "maps"\n')
        run(f"{WORKFLOW}\nassert tracer.shutdown_worker(60)")
        wait_until(lambda: len(tap.spans) >= 5, "the spans to arrive")
        spans = {span.span_id: span for span in tap.spans}
    assert len(tap.spans) == len(spans) == 5
    [root] = [span for span in spans.values() if not span.parent_span_id]
    calls = [span for span in spans.values() if span.name == "answer"]
    for call in calls:
        turn = spans[call.parent_span_id]
        assert turn.name.startswith("iteration[") and turn.parent_span_id == root.span_id
        said = attributes_of(call)
        assert said["gen_ai.request.model"] == "gpt-4o"
        assert said["gen_ai.usage.input_tokens"] == said["llm.token_count.prompt"] == 7
        assert said["llm.cost.total"] == 0.5
        assert said["session.id"] == "s-1"
        assert json.loads(said["output.value"]) == {"content": "Paris"}
    said = attributes_of(root)
    assert (said["hush.request_id"], said["tag.tags"], said["input.value"]) == ("r-1", ["vip"], "where?")
    assert len({span.trace_id for span in spans.values()}) == 1


def test_what_a_backend_rejected_stands_in_the_ledger_and_no_secret_does(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_KEY", "s3cret-of-the-app")
    collector.answer = rejecting(2, "too old: s3cret-of-the-app")
    settings(f'endpoint = "{collector.endpoint}"\nheaders = {{ X-Key = "${{COLLECTOR_KEY}}" }}\n')
    run(f"{WORKFLOW}\nassert tracer.shutdown_worker(60)")
    [export] = collector.exports
    assert export.headers["X-Key"] == "s3cret-of-the-app"
    with closing(sqlite3.connect(f"file:{tmp_path / 'traces.db'}?mode=ro", uri=True)) as reader:
        rows = reader.execute("SELECT status, last_error FROM deliveries").fetchall()
    assert rows == [("flushed", "2 of 5 spans rejected: too old: [redacted]")]


@pytest.mark.parametrize("variables", ["", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"])
def test_an_app_loads_nothing_of_opentelemetry(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if variables:
        monkeypatch.setenv(*variables.split("="))
    settings('preset = "phoenix"\nwhen = ["slow > 9s"]\n')
    loaded = run(f"{WORKFLOW}\nprint(*sys.modules)").split()
    heavy = {"opentelemetry", "google.protobuf", "grpc", "ssl", "http.client", "requests", "hush_otel.client"}
    assert heavy.isdisjoint(loaded)
    assert {name for name in loaded if name.startswith("hush_otel")} == {
        "hush_otel",
        "hush_otel.config",
        "hush_otel.plugin",
        "hush_otel.preset",
        "hush_otel.tracer",
    }


def test_a_delivery_starts_no_thread_and_sets_no_global_provider() -> None:
    with Tap() as tap:
        code = f"""
import sys, threading
sys.path += {[str(Path(__file__).parents[1])]!r}
from tests.made import request
from hush_otel.tracer import OTelTracer
OTelTracer.flush(request(config={{"endpoint": "{tap.endpoint}"}}))
from opentelemetry import trace
assert threading.active_count() == 1, threading.enumerate()
assert trace._TRACER_PROVIDER is None
"""
        run(code)


def test_without_the_extra_grpc_says_what_to_install() -> None:
    code = """
import sys
sys.modules["grpc"] = None
from hush_otel.config import read_options
from hush_otel.client import export
from hush_core import ConfigurationFlushError
sys.path += [%r]
from tests.made import request
try:
    export(read_options(protocol="grpc"), [request()])
except ConfigurationFlushError as problem:
    print(problem)
"""
    assert "Install hush-otel[grpc]" in run(code % str(Path(__file__).parents[1]))
