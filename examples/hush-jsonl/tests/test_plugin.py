"""hush finds the plugin by its entry point, and its hooks do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hush_core import BaseTracer, FlushData, get_registered_tracers, get_tracer
from hush_jsonl import plugin
from hush_jsonl.tally import count
from hush_jsonl.tracer import JsonLinesTracer

Make = Callable[..., FlushData]


def test_the_tracer_is_found_by_its_name() -> None:
    assert get_registered_tracers()["jsonl"] is JsonLinesTracer
    assert isinstance(get_tracer("jsonl", path="traces.jsonl"), JsonLinesTracer)


def test_a_request_goes_from_a_workflow_into_the_file(tmp_path: Path) -> None:
    code = """
from hush_core import code_node, get_tracer

@code_node
def answer(question):
    return {"answer": "Paris"}

tracer = get_tracer("jsonl", path="traces.jsonl")
with tracer.trace("geography", request_id="r-1"):
    answer("What is the capital of France?")
assert tracer.shutdown_worker(60)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    [line] = (tmp_path / "traces.jsonl").read_text().splitlines()
    request = json.loads(line)
    assert request["request_id"] == "r-1"
    assert [node["node_name"] for node in request["nodes"]] == ["geography", "answer"]


def test_making_a_tracer_loads_nothing_that_only_a_delivery_needs() -> None:
    code = """
import sys
from hush_core import get_tracer
get_tracer("jsonl", url="http://localhost")
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert {"hush_jsonl.endpoint", "hush_jsonl.file", "hush_jsonl.command", "http.client"}.isdisjoint(
        done.stdout.split()
    )


def test_addresses_are_masked_at_any_depth() -> None:
    record = {"input_data": {"to": ["ann@example.com, bob.b+x@mail.example.org"]}, "total_tokens": 3, "error": "a @ b"}
    masked = {"input_data": {"to": ["<address>, <address>"]}, "total_tokens": 3, "error": "a @ b"}
    assert plugin.hush_mask(record) == masked


def test_a_request_tagged_private_is_dropped(request_data: Make) -> None:
    assert plugin.hush_before_flush("lines", request_data(tags=["prod", "private"])) is False
    assert plugin.hush_before_flush("lines", request_data(tags=["prod"])) is None


def test_a_change_of_fortune_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    for outcome in ["delivered"] * 3 + ["retry"] * 2 + ["delivered"]:
        count("lines", outcome)
    assert caplog.messages == ["lines: 3 delivered, now retry", "lines: 2 retry, now delivered"]


def test_the_tracer_can_be_made_in_code() -> None:
    tracer: BaseTracer = JsonLinesTracer(path="traces.jsonl", tags=["prod"])
    assert tracer.tags == ["prod"]
