"""Lines are posted in one request; what the backend answers decides. hush's own tests go through every answer."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from hush_core import ConfigurationFlushError, FlushData, PermanentFlushError, RetryableFlushError
from hush_jsonl.tracer import JsonLinesTracer

from .conftest import Backend

Make = Callable[..., FlushData]


def test_a_batch_is_one_post(backend: Backend, request_data: Make) -> None:
    config = {"url": f"{backend.origin}/ingest?project=1", "headers": {"Authorization": "Bearer abc"}}
    JsonLinesTracer.flush_batch([request_data(f"r-{n}", config) for n in range(3)])
    [heard] = backend.heard
    assert heard.path == "/ingest?project=1"
    assert heard.headers["Authorization"] == "Bearer abc"
    assert heard.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line)["request_id"] for line in heard.body.splitlines()] == ["r-0", "r-1", "r-2"]


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, PermanentFlushError), (401, ConfigurationFlushError), (503, RetryableFlushError)],
)
def test_an_answer_that_is_no_success_is_the_error_that_hush_makes_of_it(
    status: int, error: type[Exception], backend: Backend, request_data: Make
) -> None:
    backend.status = status
    with pytest.raises(error, match=str(status)):
        JsonLinesTracer.flush(request_data(config={"url": backend.origin}))


def test_what_the_backend_asks_to_wait_is_handed_on(backend: Backend, request_data: Make) -> None:
    backend.status, backend.answer_headers = 429, {"Retry-After": "17"}
    with pytest.raises(RetryableFlushError) as raised:
        JsonLinesTracer.flush(request_data(config={"url": backend.origin}))
    assert raised.value.retry_after_s == 17


def test_a_redirect_is_not_followed(backend: Backend, request_data: Make) -> None:
    backend.status, backend.answer_headers = 307, {"Location": f"{backend.origin}/elsewhere"}
    with pytest.raises(ConfigurationFlushError):
        JsonLinesTracer.flush(request_data(config={"url": backend.origin}))
    assert len(backend.heard) == 1


def test_nobody_there_is_worth_another_try_and_says_what_happened(request_data: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RetryableFlushError, match=f"no answer from http://127.0.0.1:{port} after") as raised:
        JsonLinesTracer.flush(request_data(config={"url": f"http://127.0.0.1:{port}/ingest?key=s3cret"}))
    assert isinstance(raised.value.__cause__, ConnectionRefusedError)
    assert "s3cret" not in str(raised.value)


def test_a_backend_that_says_nothing_is_given_up_in_time(request_data: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config: dict[str, Any] = {"url": f"http://127.0.0.1:{server.getsockname()[1]}", "timeout_s": 0.2}
        began = time.monotonic()
        with pytest.raises(RetryableFlushError):
            JsonLinesTracer.flush(request_data(config=config))
        assert time.monotonic() - began < 5
