"""Messages as the APIs of providers spell them, in the one form of the conventions."""

from __future__ import annotations

from typing import Any

import pytest

from hush_otel.message import finish_reasons, input_messages, output_messages


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def test_a_conversation_with_tools() -> None:
    call = {"id": "c-1", "type": "function", "function": {"name": "search", "arguments": '{"q": 1}'}}
    assert input_messages(
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c-1", "content": "found"},
            ]
        }
    ) == [
        {"role": "system", "parts": [text("Be brief.")]},
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c-1", "name": "search", "arguments": '{"q": 1}'}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c-1", "response": "found"}]},
    ]


def test_content_in_blocks_and_a_system_prompt_beside_the_messages() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    blocks = [
        {"type": "text", "text": "look"},
        image,
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "tool_result", "tool_use_id": "t", "content": "ok"},
        "bare",
        {"no": "type"},
    ]
    assert input_messages({"system": "Be brief.", "messages": [{"role": "user", "content": blocks}]}) == [
        {"role": "system", "parts": [text("Be brief.")]},
        {
            "role": "user",
            "parts": [
                text("look"),
                image,
                {"type": "tool_call", "id": "t", "name": "f", "arguments": {"a": 1}},
                {"type": "tool_call_response", "id": "t", "response": "ok"},
                text("bare"),
                text('{"no":"type"}'),
            ],
        },
    ]


@pytest.mark.parametrize(
    "value", [None, "why", {"question": "why"}, [], {"messages": []}, {"messages": ["why"]}, [{"content": "why"}], 3]
)
def test_what_is_no_conversation_is_none(value: Any) -> None:
    assert input_messages(value) is None


@pytest.mark.parametrize(
    ("value", "parts", "reason"),
    [
        ("yes", [text("yes")], "unknown"),
        ({"content": "yes", "finish_reason": "stop"}, [text("yes")], "stop"),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "yes"}], "stop_reason": "end"},
            [text("yes")],
            "end",
        ),
        ({"choices": [{"message": {"content": "yes"}, "finish_reason": "length"}]}, [text("yes")], "length"),
    ],
)
def test_an_answer(value: Any, parts: list[Any], reason: str) -> None:
    found = output_messages(value)
    assert found == [{"role": "assistant", "parts": parts, "finish_reason": reason}]
    assert finish_reasons(found) == ([] if reason == "unknown" else [reason])


@pytest.mark.parametrize("value", [None, 3, ["yes"], {"score": 1}, {"choices": []}, {"choices": [{"text": "yes"}]}])
def test_what_is_no_answer_is_none(value: Any) -> None:
    assert output_messages(value) is None
