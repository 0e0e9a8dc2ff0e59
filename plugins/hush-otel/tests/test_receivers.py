"""What others have written takes what is sent, and understands it: oteltap, and the collector rotel."""

from __future__ import annotations

import os
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import rotel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from ports import free_port
from waiting import wait_until

from hush_core import FlushData, PermanentFlushError
from hush_otel.encoding import encode
from hush_otel.mapping import to_spans
from hush_otel.tracer import OTelTracer

from .collector import Collector, attributes_of, spans_of
from .made import node, request, root
from .tap import Tap

PARENT = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}


def conversation(**values: Any) -> FlushData:
    """A request with something of everything."""
    answer = {"choices": [{"message": {"role": "assistant", "content": "Zürich"}, "finish_reason": "stop"}]}
    return request(
        root(input_data="where?", metadata=PARENT),
        node("iteration[0]", 1, node_type="iteration", total_tokens=12),
        node(
            "answer",
            2,
            parent_span_id=f"{1:016x}",
            node_type="llm",
            model="gpt-4o",
            prompt_tokens=10,
            completion_tokens=2,
            total_tokens=12,
            cost_usd=0.25,
            input_data={"messages": [{"role": "user", "content": "where?"}], "temperature": 0.5},
            output_data=answer,
        ),
        node(
            "search",
            3,
            node_type="tool",
            status="error",
            error="TimeoutError: slow\nTraceback (most recent call last):\n",
        ),
        tags=["prod", "vip"],
        user_id="ann",
        session_id="s-1",
        **values,
    )


def as_sent(made: FlushData) -> dict[bytes, Any]:
    """The spans of a request as they go out, by their ids."""
    exported = ExportTraceServiceRequest.FromString(encode(to_spans(made), {"service.name": "hush"}))
    return {span.span_id: span for span in spans_of(exported)}


def arrived(spans: list[Any], count: int) -> dict[bytes, Any]:
    wait_until(lambda: len(spans) >= count, f"{count} spans to arrive")
    assert len(spans) == count
    return {span.span_id: span for span in spans}


# -- oteltap ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tap() -> Iterator[Tap]:
    with Tap() as receiver:
        yield receiver


def test_oteltap_has_the_spans_that_were_sent(tap: Tap) -> None:
    made = conversation(config={"endpoint": tap.endpoint})
    assert OTelTracer.flush(made) is None
    assert arrived(tap.spans, 4) == as_sent(made)


def test_oteltap_takes_10_000_nodes_and_what_no_attribute_can_hold(tap: Tap) -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = [deep]
    odd = node("a\ud800", 1, input_data="\udfff", output_data=deep, execution_order=2**70, cost_usd=float("nan"))
    nodes = [root(), odd, *(node(f"n-{n}", n) for n in range(2, 10_000))]
    made = request(*nodes, config={"endpoint": tap.endpoint})
    assert OTelTracer.flush(made) is None
    assert arrived(tap.spans, 10_000) == as_sent(made)


def test_20_megabytes_are_delivered_to_oteltap_or_refused_with_a_reason(tap: Tap) -> None:
    nodes = [root(), *(node("n", n, input_data="x" * 1_000_000, output_data="y" * 1_000_000) for n in range(1, 11))]
    made = request(*nodes, config={"endpoint": tap.endpoint})
    try:
        assert OTelTracer.flush(made) is None
    except PermanentFlushError as refused:
        assert "413" in str(refused) and tap.spans == []
    else:
        assert arrived(tap.spans, 11) == as_sent(made)


# -- rotel ------------------------------------------------------------------------------------------------------------


class Agent(NamedTuple):
    """A running rotel that hands all on to a collector."""

    over_http: dict[str, Any]
    over_grpc: dict[str, Any]
    collector: Collector


@pytest.fixture
def agent(collector: Collector, tmp_path: Path) -> Iterator[Agent]:
    http, grpc = free_port(), free_port()
    command = [
        *(str(Path(rotel.__file__).with_name("rotel-agent")), "start"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
        *("--exporter", "otlp", "--otlp-exporter-endpoint", collector.origin, "--otlp-exporter-protocol", "http"),
        "--disable-batching",
    ]
    log = tmp_path / "rotel.log"
    # It is linked with the shared library of its wheel's Python, which the system's linker knows of few builds.
    environment = {**os.environ, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            wait_until(lambda: process.poll() is not None or all(map(listens, (http, grpc))), "rotel to listen")
            if process.poll() is not None and "libpython" in log.read_text():
                # This Python was built without one.
                pytest.skip(f"rotel does not run here: {log.read_text().strip()}")
            assert process.poll() is None, log.read_text()
            yield Agent(
                {"endpoint": f"http://127.0.0.1:{http}/v1/traces"},
                {"endpoint": f"http://127.0.0.1:{grpc}", "protocol": "grpc"},
                collector,
            )
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_rotel_hands_on_the_spans_that_were_sent(agent: Agent, protocol: str, compression: str) -> None:
    config = agent.over_http if protocol == "http" else agent.over_grpc
    made = conversation(config={**config, "compression": compression, "resource": {"team": "red"}})
    assert OTelTracer.flush(made) is None
    wait_until(lambda: len(agent.collector.spans) >= 4, "the spans to come through rotel")
    assert {span.span_id: span for span in agent.collector.spans} == as_sent(made)
    [export] = agent.collector.exports
    [of] = export.request.resource_spans
    assert attributes_of(of.resource) == {"service.name": "hush", "team": "red"}


def test_a_message_over_rotels_limit_is_refused_with_a_reason(agent: Agent) -> None:
    nodes = [root(), *(node("n", n, input_data="x" * 1_000_000) for n in range(1, 6))]
    with pytest.raises(PermanentFlushError, match="message length too large"):
        OTelTracer.flush(request(*nodes, config=agent.over_grpc))
    assert agent.collector.exports == []
