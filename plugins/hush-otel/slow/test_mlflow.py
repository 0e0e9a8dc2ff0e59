"""What MLflow has stored of a request, field by field; and that its death in between loses and doubles nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

from waiting import wait_until

from hush_otel.tracer import OTelTracer

from .conftest import Receiver
from .conversation import ANSWER, FIGURES, KINDS, QUESTION, SPANS, conversation, span_id, trace_id, tree

REQUESTS = 60
#: Records requests as it is told to, a line of two numbers each.
APP = """
import sys
from hush_core import code_node, get_tracer

@code_node(node_type="llm", model="m")
def answer(n):
    return {"content": f"answer {n}", "$usage": {"prompt_tokens": n, "completion_tokens": 1}}

tracer = get_tracer()
for line in sys.stdin:
    first, last = map(int, line.split())
    for n in range(first, last):
        with tracer.trace("geography", request_id=f"r-{n}"):
            answer(n)
            answer(n + 1)
    print("recorded", flush=True)
"""


def value_of(value: dict[str, Any]) -> Any:
    """A value of an attribute, as the answers of MLflow spell OTLP: what was JSON has become a structure."""
    [(kind, found)] = value.items()
    if kind == "kvlist_value":
        return {each["key"]: value_of(each["value"]) for each in found.get("values", [])}
    if kind == "array_value":
        return [value_of(each) for each in found.get("values", [])]
    return int(found) if kind == "int_value" else found


def stored(mlflow: Receiver, which: str) -> list[Any]:
    """The spans of a trace, with plain attributes."""
    spans = mlflow.ask(f"/api/3.0/mlflow/traces/get?trace_id=tr-{which}")["trace"]["spans"]
    for span in spans:
        span["attributes"] = {each["key"]: value_of(each["value"]) for each in span["attributes"]}
    return list(spans)


def traces(mlflow: Receiver) -> list[Any]:
    """All traces of the default experiment."""
    where = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    found: list[Any] = []
    token = ""
    while True:
        page = mlflow.ask(
            "/api/3.0/mlflow/traces/search", {"locations": where, "max_results": 100, "page_token": token}
        )
        found += page.get("traces", [])
        token = page.get("next_page_token", "")
        if not token:
            return found


def hexadecimal(text: str | None) -> str | None:
    return None if not text else b64decode(text).hex()


def test_mlflow_has_the_tree_the_times_the_figures_and_the_content(mlflow: Receiver) -> None:
    config = {"preset": "mlflow", "endpoint": mlflow.endpoint}
    assert OTelTracer.flush(conversation(config, 1)) is None
    spans = {hexadecimal(span["span_id"]): span for span in stored(mlflow, trace_id(1))}
    found = {
        key: (
            *(span["name"], hexadecimal(span.get("parent_span_id"))),
            *(int(span["start_time_unix_nano"]), int(span["end_time_unix_nano"])),
            *(span["status"]["code"].removeprefix("STATUS_CODE_"), span["status"].get("message", "")),
        )
        for key, span in spans.items()
    }
    assert found == tree(1)
    assert {number: spans[span_id(1, number)]["attributes"]["mlflow.spanType"] for number in KINDS} == KINDS
    root, _, answer, search, odd = (spans[key]["attributes"] for key in tree(1))
    assert {name: answer[name] for name in FIGURES} == FIGURES
    assert answer["mlflow.chat.tokenUsage"] == {
        "input_tokens": 100,
        "output_tokens": 20,
        "total_tokens": 120,
        "cache_read_input_tokens": 40,
    }
    assert answer["mlflow.spanInputs"] == answer["input.value"] == QUESTION
    assert answer["mlflow.spanOutputs"] == answer["output.value"] == ANSWER
    assert (root["mlflow.spanInputs"], root["mlflow.spanOutputs"]) == ("where?", "there")
    assert search["input.value"] == {"q": "Zürich"}
    [event] = spans[span_id(1, 4)]["events"]
    assert {each["key"]: value_of(each["value"]) for each in event["attributes"]}["exception.type"] == "TimeoutError"
    assert (odd["input.value"], odd["output.value"]) == ("\\udfff", {"deep": [[[1]]]})
    [trace] = [each for each in traces(mlflow) if each["trace_id"] == f"tr-{trace_id(1)}"]
    said = trace["trace_metadata"]
    assert (said["mlflow.trace.session"], said["mlflow.trace.user"]) == ("s-1", "ann")
    # The turn of the loop has the sums of what ran in it, under names that nobody adds up again.
    assert json.loads(said["mlflow.trace.tokenUsage"])["total_tokens"] == 120


def test_a_second_attempt_changes_nothing_in_mlflow(mlflow: Receiver) -> None:
    config = {"preset": "mlflow", "endpoint": mlflow.endpoint}
    for _ in range(3):
        assert OTelTracer.flush(conversation(config, 2)) is None
    assert len(stored(mlflow, trace_id(2))) == SPANS


def hush(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from hush_core.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)


def test_a_server_that_is_killed_and_comes_back_loses_and_doubles_nothing(mlflow: Receiver, home: Path) -> None:
    before = {trace["trace_id"] for trace in traces(mlflow)}
    Path("hush.toml").write_text(
        f'default = ["prod"]\n[tracers.prod]\ntype = "otel"\npreset = "mlflow"\nendpoint = "{mlflow.endpoint}"\n'
    )
    with subprocess.Popen(
        [sys.executable, "-c", APP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as app:
        assert app.stdin is not None and app.stdout is not None

        def record(first: int, last: int) -> None:
            assert app.stdin is not None and app.stdout is not None
            app.stdin.write(f"{first} {last}\n")
            app.stdin.flush()
            assert app.stdout.readline() == "recorded\n"

        for first in range(0, REQUESTS // 2, 5):
            record(first, first + 5)
        wait_until(lambda: len(traces(mlflow)) > len(before), "MLflow to have some of them", 60)
        mlflow.kill()  # with some stored, some on the way, and some waiting
        record(REQUESTS // 2, REQUESTS)
        wait_until(lambda: "refused" in hush("tracers", "--json").stdout, "a delivery to fail", 60)
        mlflow.start()
        app.stdin.close()
        assert app.wait(60) == 0
    done = hush("flush", "--wait", "--timeout", "120s")
    assert done.returncode == 0, done.stdout + done.stderr
    mine = [trace["trace_id"] for trace in traces(mlflow) if trace["trace_id"] not in before]
    assert len(mine) == len(set(mine)) == REQUESTS
    asked = set()
    for each in mine:
        spans = stored(mlflow, each.removeprefix("tr-"))
        assert sorted(span["name"] for span in spans) == ["answer", "answer", "geography"]
        [root] = [span for span in spans if span["name"] == "geography"]
        asked.add(root["attributes"]["hush.request_id"])
    assert asked == {f"r-{n}" for n in range(REQUESTS)}
