"""A line is the request and nothing of the delivery, the same in every attempt."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hush_core import FlushData, PermanentFlushError
from hush_jsonl.mapping import to_line

Make = Callable[..., FlushData]


def test_a_line_is_the_request_as_json(request_data: Make) -> None:
    line = to_line(request_data())
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    request = json.loads(line)
    assert request["request_id"] == "r-1"
    assert [node["node_name"] for node in request["nodes"]] == ["geography", "answer"]


def test_a_line_holds_nothing_of_the_tracer(request_data: Make) -> None:
    assert b"s3cret" not in to_line(request_data(config={"headers": {"Authorization": "s3cret"}}))


def test_every_attempt_makes_the_same_line(request_data: Make) -> None:
    assert to_line(request_data(attempt=7)) == to_line(request_data(attempt=1))


@pytest.mark.parametrize("text", ["a\nb\r\u2028c", "Zürich 東京", "lone \ud800 surrogate", "\x00"])
def test_any_text_stays_on_one_line_of_ascii(text: str, request_data: Make) -> None:
    line = to_line(request_data(workflow_name=text))
    assert line.isascii() and len(line.splitlines()) == 1
    assert json.loads(line)["workflow_name"] == text


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_what_is_no_json_can_never_be_delivered(value: Any, request_data: Make) -> None:
    with pytest.raises(PermanentFlushError, match="request r-1 is not plain JSON"):
        to_line(request_data(workflow_name=value))
