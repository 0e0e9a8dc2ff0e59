"""Options are checked where the app makes the tracer, with a message that says what would be right."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from hush_core import ConfigError
from hush_jsonl.config import read_options
from hush_jsonl.tracer import JsonLinesTracer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "needs a path or a url, and not both"),
        ({"path": "a.jsonl", "url": "http://localhost"}, "needs a path or a url, and not both"),
        ({"path": ""}, 'has to be the path of a file: "traces.jsonl"'),
        ({"path": 3}, "path of a jsonl tracer is 3"),
        ({"path": "traces/"}, "a folder; name a file in it"),
        ({"path": "a.jsonl", "headers": {}}, "headers of a jsonl tracer go with a url"),
        ({"url": "example.com/ingest"}, "has to begin with http:// or https://"),
        ({"url": "https://"}, "has to begin with http:// or https:// and a host"),
        ({"url": "ftp://example.com"}, "has to begin with http:// or https://"),
        ({"url": "http://example.com/a b"}, "no blank"),
        ({"url": "http://example.com:port"}, "url of a jsonl tracer cannot be read"),
        ({"url": ["http://example.com"]}, "has to be a text"),
        ({"url": "http://localhost", "headers": ["a"]}, "have to be a table of texts"),
        ({"url": "http://localhost", "headers": {"a b": "c"}}, "a name that begins with 'a' and goes on"),
        ({"url": "http://localhost", "headers": {"Host": "c"}}, "The header Host of a jsonl tracer is set by"),
        ({"url": "http://localhost", "headers": {"Key": 3}}, "The header Key of a jsonl tracer has to be a text"),
        ({"url": "http://localhost", "timeout_s": 0}, "a number of seconds above 0"),
        ({"url": "http://localhost", "timeout_s": True}, "a number of seconds above 0"),
        ({"url": "http://localhost", "timeout_s": float("nan")}, "a number of seconds above 0"),
        ({"url": "http://localhost", "timeout_s": "10s"}, "a number of seconds above 0"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_would_be_right(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        JsonLinesTracer(**options)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "https://me:s3cret@example.com"},
        {"url": "https://me:s3cret/@example.com"},
        {"url": "https://me:s3cret[@example.com"},
        {"url": "ftp://example.com/?key=s3cret"},
        {"url": "https://example.com/a b?key=s3cret"},
        {"url": "example.com/?key=s3cret"},
        {"url": ["https://example.com/?key=s3cret"]},
        {"headers": {"Key": "s3cret\n"}},
    ],
)
def test_an_error_shows_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        read_options(**{"url": "http://localhost", **options})
    assert "s3cret" not in "".join(traceback.format_exception(raised.type, raised.value, None))


def test_a_reference_is_taken_as_it_is() -> None:
    options = read_options(url="${INGEST_URL}", headers={"Authorization": "Bearer ${INGEST_TOKEN}"})
    assert options.url == "${INGEST_URL}"
    assert options.headers == {"Authorization": "Bearer ${INGEST_TOKEN}"}


@pytest.mark.parametrize(
    "options",
    [
        {"path": "traces.jsonl"},
        {"path": Path("traces.jsonl")},
        {"url": "https://example.com/ingest?project=1"},
        {"url": "http://[::1]:8080", "headers": {"Key": "${KEY}"}, "timeout_s": 3},
    ],
)
def test_what_is_recorded_makes_the_same_tracer_again(options: dict[str, Any]) -> None:
    config = JsonLinesTracer(**options)._get_tracer_config()
    assert JsonLinesTracer(**config)._get_tracer_config() == config
