"""One attempt over HTTP, against every answer there is; and what a request is that no backend would take as it is."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from backend import (
    BROKEN,
    CLOSES,
    HANGS,
    MOVED,
    NOT_FOUND,
    REFUSED,
    RESETS,
    TRICKLES,
    TRICKLES_ITS_ERROR,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    throttled,
)

from hush_core import ConfigurationFlushError, FlushData, FlushError, PermanentFlushError, RetryableFlushError
from hush_otel.tracer import OTelTracer

from .collector import TAKEN, Collector, attributes_of, rejecting
from .made import node, request, root

PAGE = Answer(200, {"Content-Type": "text/html"}, b"<!doctype html><title>Sign in</title>")


def to(collector: Collector, *nodes: Any, **options: Any) -> FlushData:
    return request(*nodes, config={"endpoint": collector.endpoint, "timeout_s": 20.0, **options})


def test_a_request_arrives_whole(collector: Collector) -> None:
    sent = OTelTracer.flush(to(collector, headers={"X-Key": "abc"}, service_name="shop"))
    assert sent is None
    [export] = collector.exports
    assert export.headers["X-Key"] == "abc"
    assert export.headers["Content-Type"] == "application/x-protobuf"
    assert re.fullmatch(r"hush-otel/\d.*", export.headers["User-Agent"])
    [of] = export.request.resource_spans
    assert attributes_of(of.resource) == {"service.name": "shop"}
    assert of.scope_spans[0].scope.name == "hush"
    assert [span.name for span in export.spans] == ["geography", "answer"]


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_a_body_is_compressed_as_it_is_said(collector: Collector, compression: str) -> None:
    for attempt in (1, 2):
        OTelTracer.flush({**to(collector, compression=compression), "attempt": attempt})
    first, second = collector.exports
    assert first.headers.get("Content-Encoding", "none") == compression
    assert [span.name for span in first.spans] == ["geography", "answer"]
    assert first.body == second.body  # a second attempt sends the same


def test_a_batch_is_one_export(collector: Collector) -> None:
    batch = [{**to(collector), "trace_id": f"{n:032x}", "request_id": f"r-{n}"} for n in range(1, 4)]
    assert OTelTracer.flush_batch(batch) is None  # type: ignore[arg-type]
    [export] = collector.exports
    assert [span.trace_id[-1] for span in export.spans] == [1, 1, 2, 2, 3, 3]


def test_several_large_requests_are_taken_apart_and_one_is_sent(collector: Collector) -> None:
    large = to(collector, root(input_data="x" * 900_000, output_data="y" * 900_000))
    with pytest.raises(PermanentFlushError, match="5 requests are more than 8000000 bytes in one export"):
        OTelTracer.flush_batch([large] * 5)
    assert collector.exports == []
    OTelTracer.flush_batch([large] * 2)
    assert len(collector.spans) == 2


def test_so_are_several_with_many_nodes(collector: Collector) -> None:
    many = to(collector, root(), *(node("n", n) for n in range(1, 1200)))
    with pytest.raises(PermanentFlushError, match="2 requests are more than 2000 spans in one export"):
        OTelTracer.flush_batch([many] * 2)
    assert collector.exports == []


def test_a_request_without_a_node_has_nothing_to_send(collector: Collector) -> None:
    assert OTelTracer.flush({**to(collector), "nodes": []}) is None
    assert collector.exports == []


@pytest.mark.parametrize(
    ("answer", "error", "said", "wait_s"),
    [
        (MOVED, ConfigurationFlushError, "302.*redirects to http://127.0.0.1:9/elsewhere", None),
        (REFUSED, PermanentFlushError, "HTTP 400 Bad Request: a line is not what it should be", None),
        (UNAUTHORIZED, ConfigurationFlushError, "401.*credentials are refused", None),
        (Answer(403), ConfigurationFlushError, "403", None),
        (NOT_FOUND, ConfigurationFlushError, "404.*address is wrong", None),
        (Answer(413), PermanentFlushError, "413", None),
        (Answer(415), PermanentFlushError, "415", None),
        (Answer(422), PermanentFlushError, "422", None),
        (throttled(), RetryableFlushError, "429", 1),
        (throttled(17), RetryableFlushError, "429", 17),
        (BROKEN, RetryableFlushError, "500.*internal error", 5),
        (Answer(502), RetryableFlushError, "502", 5),
        (UNAVAILABLE, RetryableFlushError, "503", 1),
        (CLOSES, RetryableFlushError, "no answer from http://127.0.0.1:", 5),
        (RESETS, RetryableFlushError, "no answer from http://127.0.0.1:", 5),
        (PAGE, ConfigurationFlushError, "no OTLP backend sends", None),
        (rejecting(2, "too old"), PermanentFlushError, "2 of 2 spans rejected: too old", None),
    ],
)
def test_an_answer_is_the_outcome_that_it_means(
    answer: Answer, error: type[FlushError], said: str, wait_s: float | None, collector: Collector
) -> None:
    collector.answer = answer
    with pytest.raises(error, match=said) as raised:
        OTelTracer.flush(to(collector))
    assert len(collector.exports) == 1  # one attempt, and nothing followed
    assert getattr(raised.value, "retry_after_s", None) == wait_s


def test_a_part_that_was_rejected_is_noted_and_the_rest_delivered(collector: Collector) -> None:
    collector.answer = rejecting(1, "too old")
    assert OTelTracer.flush(to(collector)) == "1 of 2 spans rejected: too old"
    noted = OTelTracer.flush_batch([to(collector), to(collector)])
    assert noted == "1 of 4 spans rejected: too old (of a batch of 2 requests)"
    assert len(collector.exports) == 2


@pytest.mark.parametrize("answer", [HANGS, TRICKLES, Answer(200, {"Content-Type": "x"}, how="trickle body")])
def test_a_backend_that_does_not_come_to_an_end_is_given_up_in_time(answer: Answer, collector: Collector) -> None:
    collector.answer = answer
    began = time.monotonic()
    with pytest.raises(RetryableFlushError, match="timed out") as raised:
        OTelTracer.flush(to(collector, timeout_s=0.4))
    assert raised.value.retry_after_s == 5
    assert 0.3 < time.monotonic() - began < 5


def test_an_error_whose_text_does_not_come_is_that_error(collector: Collector) -> None:
    collector.answer = TRICKLES_ITS_ERROR
    with pytest.raises(RetryableFlushError, match="HTTP 500"):
        OTelTracer.flush(to(collector, timeout_s=0.4))


def test_the_endpoint_of_all_signals_in_the_place_of_that_for_traces_is_pointed_out(collector: Collector) -> None:
    collector.answer = NOT_FOUND
    with pytest.raises(ConfigurationFlushError, match=f"is {collector.origin}/otlp/v1/traces meant?"):
        OTelTracer.flush(to(collector, endpoint=f"{collector.origin}/otlp/"))


@contextmanager
def listening(answer: bytes = b"") -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads one request, says this and closes: its address, and what it read."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                with connection.makefile("rb") as file:  # the whole request: closing before it is read would be a reset
                    head = b"".join(iter(file.readline, b"\r\n"))
                    length = re.search(rb"Content-Length: (\d+)", head)
                    assert length is not None
                    heard.append(head + b"\r\n" + file.read(int(length[1])))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", heard
        thread.join(10)


def test_the_path_and_the_query_are_those_of_the_endpoint() -> None:
    with listening() as (address, heard), pytest.raises(RetryableFlushError) as raised:
        OTelTracer.flush(request(config={"endpoint": f"http://{address}/otlp?key=s3cret", "basic_auth": "me:you"}))
    head = heard[0].partition(b"\r\n\r\n")[0].decode()
    assert head.startswith("POST /otlp?key=s3cret HTTP/1.1\r\n")
    assert f"\r\nHost: {address}\r\n" in head
    assert "\r\nAuthorization: Basic bWU6eW91" in head
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", RetryableFlushError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort", RetryableFlushError),
        (b"HTTP/1.1 200 OK\r\nContent-Le", RetryableFlushError),
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n", RetryableFlushError),
        (b"HTTP/1.1 200 OK", RetryableFlushError),
        (b"SSH-2.0-OpenSSH_9.6\r\n", RetryableFlushError),
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\nshort", PermanentFlushError),
    ],
)
def test_an_answer_that_ends_before_its_end_is_no_success(answer: bytes, error: type[FlushError]) -> None:
    with listening(answer) as (address, _), pytest.raises(error):
        OTelTracer.flush(request(config={"endpoint": f"http://{address}/v1/traces"}))


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    with listening(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{}") as (address, _):
        assert OTelTracer.flush(request(config={"endpoint": f"http://{address}/v1/traces"})) is None


def test_nobody_there_is_worth_another_try_and_says_what_happened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RetryableFlushError, match=f"no answer from http://127.0.0.1:{port} after") as raised:
        OTelTracer.flush(request(config={"endpoint": f"http://127.0.0.1:{port}/v1/traces"}))
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert raised.value.retry_after_s is None  # nothing can have been taken


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 70 + ".invalid", "a..invalid"])
def test_a_host_that_is_none_is_an_error_that_names_it(host: str) -> None:
    with pytest.raises((RetryableFlushError, ConfigurationFlushError), match=re.escape(host)):
        OTelTracer.flush(request(config={"endpoint": f"http://{host}/v1/traces"}))


@pytest.mark.parametrize(
    "config", [{"endpoint": "nonsense"}, {"endpoint": "http://a.example", "colour": "red"}, {"endpoint": "${"}]
)
def test_a_configuration_that_makes_no_sense_waits_until_somebody_acts(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationFlushError):
        OTelTracer.flush(request(config=config))


def test_a_variable_that_makes_no_sense_waits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
    with pytest.raises(ConfigurationFlushError, match="OTEL_EXPORTER_OTLP_PROTOCOL"):
        OTelTracer.flush(request())


def test_the_key_of_the_environment_reaches_no_other_endpoint(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Collector() as other:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", other.origin)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=s3cret")
        OTelTracer.flush(to(collector))
        OTelTracer.flush(request())
        assert "x-key" not in {name.lower() for name in collector.exports[0].headers}
        assert other.exports[0].headers["x-key"] == "s3cret"


def test_a_netrc_file_has_no_say(collector: Collector, home: Any) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    OTelTracer.flush(to(collector, headers={"Authorization": "Bearer mine"}))
    assert collector.exports[0].headers["Authorization"] == "Bearer mine"


def test_a_proxy_of_the_environment_has_no_say(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    OTelTracer.flush(to(collector))
    assert len(collector.exports) == 1


# -- what no backend would take as it is ------------------------------------------------------------------------------


def test_10_000_nodes_arrive_all(collector: Collector) -> None:
    nodes = [root(), *(node(f"n-{n}", n, input_data={"n": n}) for n in range(1, 10_000))]
    OTelTracer.flush(to(collector, *nodes))
    assert [int.from_bytes(span.span_id, "big") for span in collector.spans[1:]] == list(range(1, 10_000))
    assert attributes_of(collector.spans[-1])["input.value"] == '{"n":9999}'


def test_20_megabytes_arrive_or_are_refused_with_a_reason(collector: Collector) -> None:
    nodes = [root(), *(node(f"n-{n}", n, input_data="é" * 500_000, output_data="y" * 1_000_000) for n in range(1, 11))]
    OTelTracer.flush(to(collector, *nodes))
    [export] = collector.exports
    assert len(export.body) > 20_000_000
    assert all(len(attributes_of(span)["input.value"]) == 500_000 for span in export.spans[1:])
    collector.answer = Answer(413, body=b"at most 4 MiB")
    with pytest.raises(PermanentFlushError, match=r"413.*at most 4 MiB"):
        OTelTracer.flush(to(collector, *nodes))


def test_a_backend_that_refuses_before_it_has_read_all_is_heard() -> None:
    answer = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        config = {"endpoint": f"http://127.0.0.1:{server.getsockname()[1]}/v1/traces"}
        with pytest.raises(PermanentFlushError, match="413"):
            OTelTracer.flush(request(root(input_data="x" * 1_000_000, output_data="y" * 1_000_000), config=config))
        thread.join(10)


def test_odd_values_arrive_visibly(collector: Collector) -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = [deep]
    made = node("a\ud800", 1, input_data="b\udfff", output_data=deep, prompt_tokens=2**70, cost_usd=float("nan"))
    OTelTracer.flush(to(collector, root(), made))
    span = collector.spans[1]
    assert span.name == "a\\ud800"
    said = attributes_of(span)
    assert said["input.value"] == "b\\udfff"
    assert json.loads(said["output.value"]) == deep
    assert said["hush.prompt_tokens"] == str(2**70)
    assert "llm.cost.total" not in said


def test_what_is_no_request_any_more_is_a_dead_letter_with_its_reason(collector: Collector) -> None:
    with pytest.raises(PermanentFlushError, match="request r-1 cannot be encoded: ValueError"):
        OTelTracer.flush({**to(collector), "trace_id": "not hexadecimal"})
    assert collector.exports == []


def test_taken_is_what_the_backend_says_and_nothing_else(collector: Collector) -> None:
    collector.script(UNAVAILABLE, TAKEN)
    with pytest.raises(RetryableFlushError):
        OTelTracer.flush(to(collector))
    OTelTracer.flush(to(collector))
    first, second = collector.exports
    assert first.body == second.body
