"""Whatever a backend answers, the tracer says what it came to: delivered only if the backend said so, and in time.

The example's tracer, in this process, against a real server. What hush then does with each error is tested elsewhere.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from backend import (
    BROKEN,
    CLOSES,
    HANGS,
    MOVED,
    NOT_FOUND,
    OK,
    REFUSED,
    RESETS,
    TAKES_ALL_THEN_CLOSES,
    TAKES_HALF_THEN_CLOSES,
    TAKES_HALF_THEN_FAILS,
    TRICKLES,
    TRICKLES_ITS_ERROR,
    UNAUTHORIZED,
    UNAVAILABLE,
    Answer,
    Backend,
    throttled,
)

from hush_core import ConfigurationFlushError, PermanentFlushError, RetryableFlushError
from hush_jsonl.tracer import JsonLinesTracer

_TIMEOUT_S = 20.0


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as server:
        yield server


def patience_s(answer: Answer) -> float:
    """The timeout for a backend that answers so: short where it is what ends the attempt."""
    return 0.5 if answer in (HANGS, TRICKLES, TRICKLES_ITS_ERROR) else _TIMEOUT_S


def batch(backend: Backend, lines: int = 3, timeout_s: float = _TIMEOUT_S) -> list[Any]:
    """Requests as `flush_batch` is given them."""
    return [
        {
            "request_id": f"r-{number}",
            "trace_id": f"{number:032x}",
            "tags": [],
            "nodes": [{"span_id": f"{number:016x}"}],
            "attempt": 1,
            "tracer_name": "prod",
            "tracer_type": "JsonLinesTracer",
            "tracer_config": {"url": backend.url, "headers": {}, "timeout_s": timeout_s},
        }
        for number in range(lines)
    ]


def test_200_is_delivered(backend: Backend) -> None:
    JsonLinesTracer.flush_batch(batch(backend))
    [post] = backend.posts
    assert [(line.request_id, line.trace_id, line.span_ids) for line in backend.accepted] == [
        (f"r-{number}", f"{number:032x}", (f"{number:016x}",)) for number in range(3)
    ]
    assert post.headers["Content-Type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("answer", "error", "said", "accepted"),
    [
        pytest.param(UNAUTHORIZED, ConfigurationFlushError, "401", 0, id="401"),
        pytest.param(Answer(403), ConfigurationFlushError, "403", 0, id="403"),
        pytest.param(NOT_FOUND, ConfigurationFlushError, "404", 0, id="404"),
        pytest.param(MOVED, ConfigurationFlushError, "http://127.0.0.1:9/elsewhere", 0, id="redirects"),
        pytest.param(REFUSED, PermanentFlushError, "a line is not what it should be", 0, id="400"),
        pytest.param(Answer(413), PermanentFlushError, "413", 0, id="413"),
        pytest.param(throttled(), RetryableFlushError, "429", 0, id="429"),
        pytest.param(BROKEN, RetryableFlushError, "500 .*internal error", 0, id="500"),
        pytest.param(UNAVAILABLE, RetryableFlushError, "503", 0, id="503"),
        pytest.param(CLOSES, RetryableFlushError, "no answer", 0, id="closes"),
        pytest.param(RESETS, RetryableFlushError, "no answer", 0, id="resets"),
        pytest.param(HANGS, RetryableFlushError, "no answer", 0, id="hangs"),
        pytest.param(TRICKLES, RetryableFlushError, "no answer", 0, id="trickles"),
        pytest.param(TRICKLES_ITS_ERROR, RetryableFlushError, "500", 0, id="trickles its error"),
        pytest.param(TAKES_HALF_THEN_FAILS, RetryableFlushError, "500", 2, id="takes half, then 500"),
        pytest.param(TAKES_HALF_THEN_CLOSES, RetryableFlushError, "no answer", 2, id="takes half, then closes"),
        pytest.param(TAKES_ALL_THEN_CLOSES, RetryableFlushError, "no answer", 3, id="takes all, then closes"),
    ],
)
def test_any_other_answer_is_an_error_of_its_class_within_the_timeout(
    answer: Answer, error: type[Exception], said: str, accepted: int, backend: Backend
) -> None:
    backend.answer = answer
    timeout_s = patience_s(answer)
    began = time.monotonic()
    with pytest.raises(error, match=said) as raised:
        JsonLinesTracer.flush_batch(batch(backend, timeout_s=timeout_s))
    # The machine is shared. One that waited for the server would take minutes.
    assert time.monotonic() - began < timeout_s + 10
    assert type(raised.value) is error
    assert len(backend.posts) == 1  # hush tries again, later; the tracer does not
    assert len(backend.accepted) == accepted


@pytest.mark.parametrize("answer", [CLOSES, RESETS, HANGS, TRICKLES, TAKES_HALF_THEN_CLOSES])
def test_a_fault_on_the_way_keeps_its_cause(answer: Answer, backend: Backend) -> None:
    backend.answer = answer
    with pytest.raises(RetryableFlushError) as raised:
        JsonLinesTracer.flush_batch(batch(backend, timeout_s=patience_s(answer)))
    assert raised.value.__cause__ is not None


def test_what_the_backend_asks_to_wait_is_handed_on(backend: Backend) -> None:
    backend.script(throttled(17), throttled(formatdate(time.time() + 60, usegmt=True)))
    waits = []
    for _ in range(2):
        with pytest.raises(RetryableFlushError) as raised:
            JsonLinesTracer.flush_batch(batch(backend))
        waits.append(raised.value.retry_after_s)
    assert waits[0] == 17
    assert waits[1] == pytest.approx(60, abs=10)


def test_a_backend_that_is_gone_is_worth_another_try_and_serves_again_on_the_same_port(backend: Backend) -> None:
    backend.die()
    with pytest.raises(RetryableFlushError, match="refused"):
        JsonLinesTracer.flush_batch(batch(backend))
    assert backend.posts == []
    backend.come_back()
    JsonLinesTracer.flush_batch(batch(backend))
    assert backend.ids == {"r-0", "r-1", "r-2"}


def test_a_batch_that_is_sent_again_is_byte_for_byte_the_same(backend: Backend) -> None:
    backend.script(TAKES_HALF_THEN_FAILS, OK)
    with pytest.raises(RetryableFlushError):
        JsonLinesTracer.flush_batch(batch(backend))
    JsonLinesTracer.flush_batch([{**request, "attempt": 2} for request in batch(backend)])
    first, second = backend.posts
    assert first.body == second.body
    assert [line.request_id for line in backend.accepted] == ["r-0", "r-1", "r-0", "r-1", "r-2"]


def test_an_answer_that_comes_before_all_was_read_is_still_read(backend: Backend) -> None:
    """As of a server that refuses what is too large: it answers, and closes, while the tracer still sends."""

    def refuse() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=refuse)
        thread.start()
        large = batch(backend)
        for request in large:
            request["tracer_config"]["url"] = f"http://127.0.0.1:{server.getsockname()[1]}"
            request["workflow_name"] = "x" * 5_000_000
        with pytest.raises(PermanentFlushError, match="413"):
            JsonLinesTracer.flush_batch(large)
        thread.join()
