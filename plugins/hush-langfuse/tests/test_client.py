"""What Langfuse answers, or does not, becomes the outcome that hush acts on; nothing counts as sent that was not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from hush_core import ConfigurationFlushError, FlushError, PermanentFlushError, RetryableFlushError
from hush_langfuse.tracer import LangfuseTracer

from .conftest import PUBLIC, SECRET, config, make_request, node
from .langfuse_server import Answer, Heard, LangfuseServer

HTML = b"<html><body>Please log in</body></html>"


def flush(server: LangfuseServer, **options: Any) -> str | None:
    return LangfuseTracer.flush(make_request(node(), tracer_config=config(server, **options)))


def always(answer: Answer) -> Any:
    return lambda heard: answer


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [Answer(), Answer(200, b""), Answer(204, b""), Answer(207), Answer(200, b'{"partialSuccess": {}}')]
)
def test_a_success_is_delivered(answer: Answer, server: LangfuseServer) -> None:
    server.answers = always(answer)
    assert flush(server) is None
    assert len(server.heard) == 1


@pytest.mark.parametrize(
    ("answer", "error", "said", "wait_s"),
    [
        (Answer(301, b"", {"Location": "https://b"}), ConfigurationFlushError, "redirects to https://b", None),
        (Answer(302, HTML, {"Location": "/login"}), ConfigurationFlushError, "redirects to /login", None),
        (Answer(307, b"", {"Location": "/"}), ConfigurationFlushError, "redirects to /", None),
        (Answer(400, b'{"error": "Invalid OTLP trace"}'), PermanentFlushError, "400 .*Invalid OTLP trace", None),
        (Answer(400, b"what?"), PermanentFlushError, "400 .*what?", None),
        (Answer(401, b'{"message": "Invalid keys"}'), ConfigurationFlushError, "401 .*Invalid keys", None),
        (Answer(403), ConfigurationFlushError, "403", None),
        (Answer(404, HTML), ConfigurationFlushError, "404", None),
        (Answer(405), ConfigurationFlushError, "405", None),
        (Answer(407), ConfigurationFlushError, "407", None),
        (Answer(408), RetryableFlushError, "408", 5),
        (Answer(413, HTML), PermanentFlushError, "413", None),
        (Answer(422), PermanentFlushError, "422", None),
        (Answer(429, b"", {"Retry-After": "17"}), RetryableFlushError, "429", 17),
        (Answer(429), RetryableFlushError, "429", 1),
        (Answer(500, b'{"message": "oh"}'), RetryableFlushError, "500 .*oh", 5),
        (Answer(502, HTML), RetryableFlushError, "502", 5),
        (Answer(503), RetryableFlushError, "503", 1),
        (Answer(504), RetryableFlushError, "504", 5),
        (Answer(how="reset"), RetryableFlushError, "no answer from 127.0.0.1:", 5),
        (Answer(how="close"), RetryableFlushError, "no answer from 127.0.0.1:", 5),
        (Answer(200, HTML), ConfigurationFlushError, "not as Langfuse does: .*Please log in", None),
        (Answer(200, b'"OK"'), ConfigurationFlushError, "not as Langfuse does", None),
        (Answer(200, b"null"), ConfigurationFlushError, "not as Langfuse does", None),
    ],
)  # fmt: skip
def test_any_other_answer_is_an_error_of_its_kind(
    answer: Answer, error: type[FlushError], said: str, wait_s: float | None, server: LangfuseServer
) -> None:
    server.answers = always(answer)
    with pytest.raises(error, match=said) as raised:
        flush(server)
    assert raised.value.__cause__ is not None
    assert getattr(raised.value, "retry_after_s", None) == wait_s
    assert len(server.heard) == 1  # one attempt, and no redirect followed


@pytest.mark.parametrize("how", ["hang", "trickle", "trickle body"])
def test_a_server_that_makes_no_end_is_given_up_in_time(how: Any, server: LangfuseServer) -> None:
    server.answers = always(Answer(how=how))
    began = time.monotonic()
    with pytest.raises(RetryableFlushError, match=r"no answer from .* within 0\.5 s"):
        flush(server, timeout_s=0.5)
    assert 0.4 < time.monotonic() - began < 5


def test_a_server_that_does_not_read_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        options = {"public_key": PUBLIC, "secret_key": SECRET, "base_url": f"http://127.0.0.1:{deaf.getsockname()[1]}"}
        noise = [node(number=number, input_data=os.urandom(400_000).hex()) for number in range(1, 20)]
        began = time.monotonic()
        with pytest.raises(RetryableFlushError, match="no answer"):
            LangfuseTracer.flush(make_request(*noise, tracer_config={**options, "timeout_s": 1.0}))
        assert time.monotonic() - began < 6


def test_the_time_is_that_of_the_whole_delivery(server: LangfuseServer) -> None:
    def slowly(heard: Heard) -> None:
        server.over.wait(0.3)

    server.answers = slowly
    large = [node(number=number, input_data="x" * 900_000) for number in range(1, 20)]
    with pytest.raises(RetryableFlushError, match="within 1 s"):
        LangfuseTracer.flush(make_request(*large, tracer_config=config(server, timeout_s=1)))


def test_nobody_there_is_worth_another_try_and_says_what_happened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        where = f"127.0.0.1:{gone.getsockname()[1]}"
    options = {"public_key": PUBLIC, "secret_key": SECRET, "base_url": f"http://{where}"}
    with pytest.raises(RetryableFlushError, match=f"no answer from {where}: .*refused") as raised:
        LangfuseTracer.flush(make_request(node(), tracer_config=options))
    assert raised.value.retry_after_s is None


def test_https_where_none_is_spoken_waits_until_somebody_acts(server: LangfuseServer) -> None:
    with pytest.raises(ConfigurationFlushError, match="cannot be trusted"):
        flush(server, base_url=server.url.replace("http://", "https://"))


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_an_error_shows_no_key(status: int, server: LangfuseServer) -> None:
    server.answers = lambda heard: Answer(status, HTML)
    with pytest.raises(FlushError) as raised:
        flush(server)
    assert SECRET not in str(raised.value) and PUBLIC not in str(raised.value)


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_a_batch_is_one_compressed_export(server: LangfuseServer) -> None:
    batch = [
        make_request(node(number=number), request_id=f"r-{number}", trace_id=f"{number:032x}",
                     tracer_config=config(server, headers={"X-Gate": "open"}))
        for number in (1, 2, 3)
    ]  # fmt: skip
    assert LangfuseTracer.flush_batch(batch) is None
    [export] = server.exports
    assert [span["traceId"] for span in server.spans] == [f"{number:032x}" for number in (1, 2, 3)]
    assert export.headers["content-encoding"] == "gzip"
    assert export.headers["x-langfuse-ingestion-version"] == "4"
    assert export.headers["x-langfuse-public-key"] == PUBLIC
    assert export.headers["x-gate"] == "open"


def test_a_server_may_be_below_a_path() -> None:
    with LangfuseServer("/observe/langfuse") as server:
        flush(server)
        assert [heard.path for heard in server.heard] == ["/observe/langfuse/api/public/otel/v1/traces"]


def test_a_second_attempt_is_the_same_to_the_byte(server: LangfuseServer) -> None:
    for attempt in (1, 2):
        LangfuseTracer.flush(make_request(node(), attempt=attempt, tracer_config=config(server)))
        server.over.wait(1.1 if attempt == 1 else 0)  # gzip would write another second
    first, second = server.exports
    assert first.raw == second.raw


def test_connections_are_kept_for_the_next_delivery(server: LangfuseServer) -> None:
    for _ in range(3):
        flush(server)
    assert len({heard.connection for heard in server.heard}) == 1


def test_another_configuration_is_another_client(server: LangfuseServer) -> None:
    flush(server, public_key="pk-lf-one")
    flush(server, public_key="pk-lf-two")
    assert [heard.headers["x-langfuse-public-key"] for heard in server.heard] == ["pk-lf-one", "pk-lf-two"]


def rejects(count: int | str) -> Answer:
    return Answer(200, json.dumps({"partialSuccess": {"rejectedSpans": count, "errorMessage": "too old"}}).encode())


def test_spans_that_were_refused_are_noted_and_not_sent_again(server: LangfuseServer) -> None:
    server.answers = always(rejects("1"))
    request = make_request(node(number=1), node(number=2, parent=1), tracer_config=config(server))
    assert LangfuseTracer.flush(request) == "1 of 2 spans were refused: too old"


def test_a_request_of_which_every_span_is_refused_is_refused(server: LangfuseServer) -> None:
    server.answers = always(rejects(1))
    with pytest.raises(PermanentFlushError, match="1 of 1 spans were refused: too old"):
        flush(server)


def test_one_request_that_is_refused_refuses_its_batch_and_none_alone(server: LangfuseServer) -> None:
    server.answers = lambda heard: Answer(400, b'{"error": "no"}') if b"poison" in heard.body else None
    batch = [make_request(node(name), tracer_config=config(server)) for name in ("a", "poison", "b")]
    with pytest.raises(PermanentFlushError):
        LangfuseTracer.flush_batch(batch)
    LangfuseTracer.flush_batch(batch[:1] + batch[2:])


def test_a_proxy_of_the_environment_is_used_and_not_for_what_no_proxy_names(
    server: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers = always(Answer())
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    flush(server, base_url="http://langfuse.example")
    flush(server)
    path = "/api/public/otel/v1/traces"
    assert [heard.path for heard in server.heard] == [f"http://langfuse.example{path}", path]


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_waits_until_somebody_acts(
    proxy: str, server: LangfuseServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(ConfigurationFlushError, match="the proxy of the environment cannot be used"):
        flush(server, public_key="pk-lf-of-its-own")


# -- large and odd ----------------------------------------------------------------------------------------------------


def test_ten_thousand_nodes_arrive_each_once_in_parts_of_a_bounded_size(server: LangfuseServer) -> None:
    nodes = [node("root", 1), *(node("work", number, 1, input_data={"n": number}) for number in range(2, 10_001))]
    LangfuseTracer.flush(make_request(*nodes, tracer_config=config(server)))
    assert [span["spanId"] for span in server.spans] == [f"{number:016x}" for number in range(1, 10_001)]
    assert all(len(export.body) < 5_000_000 for export in server.exports)


def test_a_payload_of_20_mb_arrives_cut_visibly_with_the_rest_of_its_request(server: LangfuseServer) -> None:
    large = node("large", 2, 1, input_data={"text": "x" * 20_000_000, "question": "why?"}, output_data="y" * 20_000_000)
    LangfuseTracer.flush(make_request(node("root", 1), large, node("next", 3, 1), tracer_config=config(server)))
    assert [span["name"] for span in server.spans] == ["root", "large", "next"]
    attributes = server.spans[1]["attributes"]
    said = json.loads(attributes["langfuse.observation.input"])
    assert said["question"] == "why?"
    assert said["text"].endswith("… [truncated: 20000000 chars]")
    assert attributes["langfuse.observation.output"].endswith("… [truncated: 20000000 chars]")


def test_values_that_json_or_utf8_cannot_hold_arrive_visibly(server: LangfuseServer) -> None:
    deep: Any = "bottom"
    for _ in range(300):
        deep = [deep]
    odd = {"nan": float("nan"), "int": 2**70, "text": "\ud800", "deep": deep, "bytes": {"$bytes": "AAEC"}, "nul": "\0"}
    LangfuseTracer.flush(make_request(node("\ud800\0", input_data=odd), user_id="\0", tracer_config=config(server)))
    [span] = server.spans
    assert (span["name"], span["attributes"]["user.id"]) == ("\\ud800\\x00", "\\x00")
    assert json.loads(span["attributes"]["langfuse.observation.input"]) == {
        **odd, "nan": "NaN", "int": str(2**70), "text": "\\ud800"
    }  # fmt: skip


# -- nothing of the vendor's machinery --------------------------------------------------------------------------------


def test_a_delivery_leaves_no_thread_no_global_provider_and_nothing_to_do_at_the_exit(server: LangfuseServer) -> None:
    code = """
import atexit, json, sys, threading
from hush_langfuse.tracer import LangfuseTracer
import hush_langfuse.client
before = atexit._ncallbacks()
LangfuseTracer.flush(json.loads(sys.argv[1]))
from langfuse._client.resource_manager import LangfuseResourceManager
from opentelemetry import trace
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert trace._TRACER_PROVIDER is None
assert not LangfuseResourceManager._instances
assert atexit._ncallbacks() == before
"""
    request = json.dumps(make_request(node(), tracer_config=config(server)))
    subprocess.run([sys.executable, "-c", code, request], check=True, timeout=60)
    assert len(server.exports) == 1


def test_no_thread_is_started_in_this_process_either(server: LangfuseServer) -> None:
    flush(server)  # whose server has threads of its own
    assert not [each.name for each in threading.enumerate() if "langfuse" in each.name.lower()]
