"""The bytes that the plugin sends decode to what Langfuse's own SDK sends for the same trace, ids and times aside."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from hush_core import FlushData
from hush_langfuse.tracer import LangfuseTracer

from .conftest import PUBLIC, SECRET, config, make_request, node
from .langfuse_server import Heard, LangfuseServer, read_attributes, read_span

#: What hush says beyond the SDK, on purpose: which request it was, and what it knows of a node and Langfuse does not.
ADDED: Final = {"langfuse.trace.metadata.hush", "langfuse.observation.metadata.hush"}
#: Of the resource: what describes the process that sends. That is hush's delivery process, and not the app.
OF_THE_PROCESS: Final = {"service.name", "service.instance.id", "telemetry.sdk.name", "telemetry.sdk.version"}
#: Of a span: that its parent is in the same process, which Langfuse has no use for.
LEFT_OUT: Final = {"flags"}
#: JSON instead of protobuf, and its compression; what the HTTP libraries say of themselves.
OF_THE_HTTP: Final = {
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "host",
    "user-agent", "x-fern-language",
}  # fmt: skip

PICTURE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n picture").decode()


def same_trace(server: LangfuseServer) -> FlushData:
    inner: list[dict[str, Any]] = [
        {
            "name": "answer", "node_type": "llm", "contain_generation": True,
            "input_data": [{"role": "user", "content": "capital? é漢"}], "output_data": "Paris", "model": "gpt-4o",
            "time_to_first_token_ms": 370.5,
            "prompt_tokens": 20, "cached_tokens": 5, "completion_tokens": 9, "reasoning_tokens": 2, "total_tokens": 29,
            "cost_usd": 0.25,
            "metadata": {
                "provider": "openai", "retries": 2, "deep": {"a": [1, None, 2**60]}, "ratio": 0.5, "ok": True,
                "model_parameters": {"temperature": 0.5, "max_tokens": 100},
            },
        },
        {"name": "vectors", "node_type": "embedding", "input_data": ["Paris"], "model": "ada", "prompt_tokens": 3},
        {
            "name": "draw", "node_type": "tool", "input_data": {"of": "Paris"},
            "media": [{"data": {"$bytes": PICTURE}, "type": "image/png"}],
        },
        {"name": "search", "node_type": "retriever", "status": "error", "error": "ValueError: no index"},
        {"name": "plan", "node_type": "agent", "level": "WARNING", "error": "slow"},
        {"name": "check", "node_type": "guardrail", "output_data": {"safe": True}},
        {"name": "judge", "node_type": "evaluator", "output_data": float("nan")},
        {"name": "work", "level": "DEBUG", "input_data": "", "output_data": []},
    ]  # fmt: skip
    root = node("geography", 1, node_type="chain", input_data={"question": "capital?"}, output_data={"answer": "Paris"})
    nodes = [root, *(node(number=number, parent=1, **values) for number, values in enumerate(inner, 2))]
    options = config(server, environment="staging", release="abc123", version="7")
    return make_request(*nodes, user_id="ann", session_id="s-1", tags=["prod", "vip"], tracer_config=options)


class Sent:
    """What one of the two has sent."""

    def __init__(self, exports: list[Heard], media: list[Heard]) -> None:
        self.headers = [dict(export.headers) for export in exports]
        self.resources = [_decoded(export) for export in exports]
        self.spans = {
            span["name"]: span
            for export in self.resources
            for resource in export["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in map(read_span, scope["spans"])
        }
        self.media = [heard.json for heard in media]


def _decoded(export: Heard) -> Any:
    if export.headers["content-type"] == "application/json":
        return export.json
    return MessageToDict(ExportTraceServiceRequest.FromString(export.body), use_integers_for_enums=True)


@pytest.fixture(scope="module")
def sent() -> Iterator[tuple[Sent, Sent]]:
    """What the SDK sends, and what hush sends."""
    both = []
    for send in (_send_officially, _send_through_hush):
        with LangfuseServer() as server:
            send(server)
            both.append(Sent(server.exports, server.calls("POST", "/api/public/media")))
    yield both[0], both[1]


def _send_officially(server: LangfuseServer) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LANGFUSE_", "OTEL_"))}
    script = str(Path(__file__).with_name("official.py"))
    subprocess.run([sys.executable, script, server.url, PUBLIC, SECRET], check=True, env=environment, timeout=60)


def _send_through_hush(server: LangfuseServer) -> None:
    LangfuseTracer.flush(same_trace(server))


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    """By name, JSON read: one of the two writes blanks, and escapes what is not ASCII."""
    return {key: _read(value) for key, value in span["attributes"].items()}


def _read(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def test_the_same_spans_are_sent_in_the_same_tree(sent: tuple[Sent, Sent]) -> None:
    official, ours = sent
    assert set(ours.spans) == set(official.spans)
    for spans in (official.spans, ours.spans):
        root = spans["geography"]["spanId"]
        assert {span.get("parentSpanId") for name, span in spans.items() if name != "geography"} == {root}


@pytest.mark.parametrize("name", ["geography", "answer", "vectors", "draw", "search", "plan", "check", "judge", "work"])
def test_a_span_has_the_same_attributes(name: str, sent: tuple[Sent, Sent]) -> None:
    official, ours = (attributes(each.spans[name]) for each in sent)
    assert {key: value for key, value in ours.items() if key not in ADDED} == official


@pytest.mark.parametrize("name", ["geography", "answer", "search", "plan"])
def test_a_span_has_the_same_fields_beside_its_attributes(name: str, sent: tuple[Sent, Sent]) -> None:
    official, ours = (each.spans[name] for each in sent)
    assert set(ours) == set(official) - LEFT_OUT
    assert (ours["kind"], ours["status"]) == (official["kind"], official["status"])


def test_the_resource_and_the_scope_are_the_same(sent: tuple[Sent, Sent]) -> None:
    found = []
    for each in sent:
        [resource] = each.resources[0]["resourceSpans"]
        [scope] = resource["scopeSpans"]
        about = read_attributes(resource["resource"]["attributes"])
        found.append(
            (
                {key: value for key, value in about.items() if key not in OF_THE_PROCESS},
                {**scope["scope"], "attributes": read_attributes(scope["scope"]["attributes"])},
            )
        )
    assert found[1] == found[0]


def test_the_headers_are_the_same(sent: tuple[Sent, Sent]) -> None:
    official, ours = (
        {name: value for name, value in each.headers[0].items() if name not in OF_THE_HTTP} for each in sent
    )
    if official["x-langfuse-sdk-version"].startswith(
        "4."
    ):  # whose exporter does not say it; its server knows by the rest
        official["x-langfuse-ingestion-version"] = "4"
    assert ours == official


def test_media_are_announced_the_same(sent: tuple[Sent, Sent]) -> None:
    official, ours = (
        [{key: value for key, value in each.items() if value is not None and "Id" not in key} for each in one.media]
        for one in sent
    )
    assert ours == official
